// New data for the charts on the page, under the reader's zoom. dcc.Graph writes a zoom into its own figure, so that
// Plotly's uirevision, which tells the reader's doing from the server's, cannot: the ranges are carried over here.
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.charts = {
  update: function (figures) {
    Object.entries(figures || {}).forEach(function (entry) {
      var graph = document.getElementById(entry[0]);
      var drawn = graph && graph.querySelector(".js-plotly-plot");
      if (!drawn || !drawn.layout) { return; } // the reader has gone to another page meanwhile
      var figure = entry[1];
      ["xaxis", "yaxis"].forEach(function (name) {
        var shown = drawn.layout[name], next = figure.layout[name];
        if (shown && next && shown.autorange === false && !next.fixedrange) {
          next.range = shown.range.slice();
          next.autorange = false;
        }
      });
      dash_clientside.set_props(entry[0], { figure: figure });
    });
  },
};
