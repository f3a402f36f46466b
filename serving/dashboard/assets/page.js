// What a page needs beyond links: pictures, copying, menus that close.
function post(address, method, body) {
  return fetch(address, { method: method, headers: { "content-type": "application/json" }, body: body && JSON.stringify(body) })
    .then(function (answer) {
      return answer.status === 204 ? {} : answer.json().then(function (said) {
        if (!answer.ok) {
          throw new Error(typeof said.detail === "string" ? said.detail : said.detail.map(function (one) { return one.loc.slice(-1)[0] + ": " + one.msg; }).join("; "));
        }
        return said;
      });
    });
}
function refresh() { // as a tick does
  var ticks = Number(document.documentElement.dataset.ticks || 1e6) + 1;
  document.documentElement.dataset.ticks = ticks;
  dash_clientside.set_props("tick", { n_intervals: ticks });
}
// Links between views: Dash hears of the new address by this event, as it does from its own links.
document.addEventListener("click", function (event) {
  var link = event.target.closest("a[data-view]");
  if (!link || document.getElementById("first") || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) { return; }
  event.preventDefault();
  var menu = link.closest("details.menu");
  if (menu) { menu.querySelector("summary").focus(); } // the entry goes with the menu
  view(link.getAttribute("href").replace("zone=browser", "zone=" + encodeURIComponent(Intl.DateTimeFormat().resolvedOptions().timeZone)));
  if (!menu) { window.scrollTo(0, 0); }
});
function view(address) {
  history.pushState({}, "", address);
  window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
}
document.addEventListener("submit", function (event) {
  var form = event.target.closest("form.range");
  if (!form) { return; }
  event.preventDefault();
  form.closest("details").open = false;
  view(form.dataset.base + (form.dataset.base.includes("?") ? "&" : "?") + new URLSearchParams(new FormData(form)));
});
document.addEventListener("click", function (event) {
  var skip = event.target.closest("a.skip");
  if (skip) {
    event.preventDefault();
    document.getElementById("content").focus();
  }
  var fixes = event.target.closest("button.fix-range");
  if (fixes) {
    var end = Date.now(), base = fixes.dataset.base;
    var iso = function (time) { return new Date(time).toISOString().slice(0, 19) + "Z"; };
    fixes.closest("details").open = false;
    view(base + (base.includes("?") ? "&" : "?") + new URLSearchParams({ start: iso(end - 1000 * fixes.dataset.seconds), end: iso(end) }));
  }
  var ended = event.target.closest("button.end-silence");
  if (ended) { post(ended.dataset.address, "DELETE").then(refresh, function (error) { ended.textContent = error.message; }); }
});
// The form of the alerts page: the pressed button says what to do.
document.addEventListener("submit", function (event) {
  var form = event.target.closest("form.action:not(.range)");
  if (!form) { return; }
  event.preventDefault();
  var fields = Object.fromEntries(new FormData(form)), chosen = JSON.parse(fields.alert || "{}");
  var said = document.getElementById("action-result");
  var acknowledges = event.submitter && event.submitter.value === "acknowledge";
  if (form.elements.author && !fields.author.trim()) {
    said.textContent = "Say who you are.";
    return;
  }
  if (!acknowledges && !(fields.comment || "").trim()) {
    said.textContent = "Say why it is silenced.";
    return;
  }
  var done = acknowledges
    ? post(form.dataset.alerts + "/" + chosen.id + "/acknowledge", "POST", { author: fields.author || "" })
    : post(form.dataset.silences, "POST", {
      rule: chosen.rule, labels: chosen.labels, hours: Number(fields.hours), author: fields.author || "", comment: fields.comment || "",
    });
  done.then(function () {
    said.textContent = acknowledges ? "Acknowledged." : "Silenced.";
    refresh();
  }, function (error) { said.textContent = error.message; });
});
document.addEventListener("click", function (event) {
  var picture = event.target.closest("button.picture");
  if (picture) {
    var theme = document.documentElement.dataset.theme;
    var address = picture.dataset.figure;
    fetch(address + (address.includes("?") ? "&" : "?") + "theme=" + theme)
      .then(function (answer) { return answer.json(); })
      .then(function (figure) {
        var size = { format: "png", scale: 2, width: 1000, height: figure.layout.height, filename: picture.dataset.name };
        return dash_clientside.charts.plotly().then(function (Plotly) {
          return Plotly.downloadImage({ data: figure.data, layout: figure.layout }, size);
        });
      });
  }
  var copy = event.target.closest("button.copy");
  if (copy) {
    var text = document.getElementById(copy.dataset.copies).textContent;
    navigator.clipboard.writeText(text).then(function () {
      copy.textContent = "Copied";
      setTimeout(function () { copy.textContent = "Copy"; }, 1500);
    });
  }
  var within = event.target.closest("details.menu");
  var followed = event.target.closest("a.entry");
  document.querySelectorAll("details.menu[open]").forEach(function (menu) {
    if (menu !== within || followed) { menu.open = false; }
  });
});
document.addEventListener("keydown", function (event) {
  if (event.key !== "Escape") { return; }
  document.querySelectorAll("details.menu[open]").forEach(function (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  });
});
