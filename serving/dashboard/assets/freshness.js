// Counts the age of what the page shows, here and not on the server: a server that is gone cannot say so.
window.dash_clientside = window.dash_clientside || {};
(function () {
  var newest = null; // what the newest answer said, and when it came
  function duration(seconds) {
    var whole = Math.round(seconds), minutes = Math.floor(whole / 60), hours = Math.floor(whole / 3600);
    if (whole < 120) { return whole + " s"; }
    if (minutes < 60) { return minutes + " min"; }
    if (hours < 48) { return hours + " h" + (minutes % 60 ? " " + (minutes % 60) + " min" : ""); }
    return Math.floor(hours / 24) + " d" + (hours % 24 ? " " + (hours % 24) + " h" : "");
  }
  function show() {
    if (!newest) { return; }
    var passed = Math.max(0, (Date.now() - newest.received) / 1000);
    var silent = passed > 2 * newest.refresh + 1; // two ticks were missed
    var label = document.querySelector(".freshness:not(.fixed)"); // a fixed range does not age
    var age = newest.age === null ? null : newest.age + passed;
    if (label && age !== null) { label.textContent = "measured " + duration(age) + " ago"; }
    var banner = document.getElementById("silence");
    if (!banner) { return; }
    document.documentElement.classList.toggle("silent", silent);
    banner.hidden = !silent;
    if (silent) {
      var since = new Date(newest.received).toISOString().slice(0, 19).replace("T", " ");
      var text = "The dashboard does not answer since " + since + " UTC. What stands below is old" +
        (age === null ? "." : ": it was measured " + duration(age) + " ago.");
      if (banner.textContent !== text) { banner.textContent = text; }
    }
    var title = (silent ? "SILENT" : newest.state) + " · " + newest.title;
    if (document.title !== title) { document.title = title; }
  }
  window.dash_clientside.freshness = {
    take: function (moment) {
      if (moment) { newest = Object.assign({ received: Date.now() }, moment); show(); }
    },
  };
  setInterval(show, 1000);
})();
