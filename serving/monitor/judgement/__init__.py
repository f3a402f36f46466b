"""From stored rounds to a decision: the verdict, the status, the gate."""
