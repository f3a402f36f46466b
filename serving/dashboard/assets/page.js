// What a page needs beyond links: pictures, copying, menus that close.
document.addEventListener("click", function (event) {
  var picture = event.target.closest("button.picture");
  if (picture) {
    var theme = document.documentElement.dataset.theme;
    var address = picture.dataset.figure;
    fetch(address + (address.includes("?") ? "&" : "?") + "theme=" + theme)
      .then(function (answer) { return answer.json(); })
      .then(function (figure) {
        var size = { format: "png", scale: 2, width: 1000, height: figure.layout.height, filename: picture.dataset.name };
        return window.Plotly.downloadImage({ data: figure.data, layout: figure.layout }, size);
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
