// Draws each chart once it comes into view: loading Plotly and drawing cost more than all the rest of a page. New data go
// to the drawn chart; Plotly keeps the reader's zoom while the layout's uirevision stays the same.
window.dash_clientside = window.dash_clientside || {};
(function () {
  var figures = {}; // id of a chart -> its newest figure
  var library = null, inView = new WeakSet(), watched = new WeakSet();
  function plotly() {
    library = library || new Promise(function (resolve, reject) {
      var script = document.createElement("script");
      script.src = document.documentElement.dataset.plotly;
      script.onload = function () { resolve(window.Plotly); };
      script.onerror = function () { library = null; reject(new Error("Plotly cannot be loaded")); };
      document.head.append(script);
    });
    return library;
  }
  function draw(chart) {
    if (!figures[chart.id]) { return; }
    plotly().then(function (Plotly) {
      var figure = figures[chart.id], plot = chart.firstElementChild;
      if (!chart.isConnected || !figure || chart.drawn === figure) { return; }
      if (plot && chart.drawnId !== chart.id) { // the page before had another chart in this place
        Plotly.purge(plot);
        plot.remove();
        plot = null;
      }
      if (!plot) { plot = chart.appendChild(document.createElement("div")); }
      plot.style.height = "100%";
      chart.drawn = figure;
      chart.drawnId = chart.id;
      // a copy: Plotly writes into what it gets
      Plotly.react(plot, JSON.parse(JSON.stringify(figure)));
    }, function () { /* the next tick tries again */ });
  }
  var views = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) {
      if (entry.isIntersecting) {
        inView.add(entry.target);
        draw(entry.target);
      } else {
        inView.delete(entry.target);
      }
    });
  }, { rootMargin: "50px" });
  function scan() {
    document.querySelectorAll("#page .plot").forEach(function (chart) {
      if (!watched.has(chart)) {
        watched.add(chart);
        views.observe(chart);
      } else if (inView.has(chart)) {
        draw(chart);
      }
    });
  }
  var scanning = false;
  new MutationObserver(function () {
    var first = document.getElementById("first");
    if (first && document.querySelector("#page main")) { first.remove(); } // before the next paint
    if (!scanning) {
      scanning = true;
      requestAnimationFrame(function () { scanning = false; scan(); });
    }
  }).observe(document.documentElement, { childList: true, subtree: true });
  window.addEventListener("beforeprint", function () { document.querySelectorAll("#page .plot").forEach(draw); });
  window.dash_clientside.charts = {
    plotly: plotly,
    update: function (changed) {
      Object.assign(figures, changed);
      scan();
    },
  };
})();
