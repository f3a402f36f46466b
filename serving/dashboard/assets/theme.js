// Light or dark, before the first paint: what the reader chose, else what the system says.
(function () {
  var system = window.matchMedia("(prefers-color-scheme: dark)");
  function chosen() {
    try { return localStorage.getItem("ranker-theme"); } catch (error) { return null; }
  }
  function current() { return chosen() || (system.matches ? "dark" : "light"); }
  function show(theme) { document.documentElement.dataset.theme = theme; return theme; }
  show(current());
  system.addEventListener("change", function () {
    if (!chosen() && window.dash_clientside) { dash_clientside.set_props("theme", { data: show(current()) }); }
  });
  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.theme = {
    toggle: function (clicks) {
      if (!clicks) { return current(); }
      var next = current() === "dark" ? "light" : "dark";
      try { localStorage.setItem("ranker-theme", next); } catch (error) { /* private window: this page only */ }
      return show(next);
    },
  };
})();
