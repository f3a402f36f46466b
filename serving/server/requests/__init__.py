"""From a request to a run of the model and back."""
