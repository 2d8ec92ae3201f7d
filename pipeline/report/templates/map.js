(function () {
  const element = document.getElementById("map-data");
  if (!element) return;
  const data = JSON.parse(element.textContent);
  const figure = element.closest("figure");
  const form = figure.querySelector("form"), line = figure.querySelector(".zone"), hint = line.textContent;
  const group = figure.querySelector(".zones"), boxes = figure.querySelectorAll(".legend span");
  const shades = data.shades, caption = figure.querySelector("figcaption");
  const none = "The map has no figures for this service in this month.";
  const paths = new Map();
  group.querySelectorAll("path").forEach((path) => paths.set(path.dataset.zone, path));

  function short(value) {
    for (const [unit, name] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
      if (value >= unit * 0.9995) return (value / unit).toFixed(value < 9.95 * unit ? 1 : 0).replace(/\.0$/, "") + name;
    }
    return String(value);
  }

  function chosen() {
    const months = data.values[form.service.value];
    return months[form.month.value] || null;
  }

  function says(at) {
    const found = chosen();
    const name = data.names[data.zones[at]];
    if (!found) return name + ": no figures";
    const trips = found[0][at], revenue = found[1][at];
    const money = found[1].some(Boolean) ? (revenue < 0 ? ", -$" : ", $") + Math.abs(revenue).toLocaleString("en-US") : "";
    return name + ": " + trips.toLocaleString("en-US") + " pick-ups" + money;
  }

  // As in places.py, for what is chosen; it is also what is printed, without the form.
  function sentence(values) {
    const most = Math.max(...values), revenue = form.measure.value === "1";
    const service = form.service.value.toLowerCase();
    const month = form.month.value === "all" ? "" : " in " + form.month.selectedOptions[0].textContent;
    const none = revenue ? `revenue of ${service} trips${month} comes from` : `${service} trips${month} begin in`;
    if (most <= 0) return `No ${none} a zone on the map.`;
    const more = revenue ? `revenue ${service} trips had there` : `${service} trips began there`;
    const zone = data.names[data.zones[values.indexOf(most)]];
    return `The stronger the colour of a zone, the more ${more}${month}: most in ${zone}.`;
  }

  function paint() {
    const found = chosen(), colour = data.colours[form.service.value];
    const values = found ? found[form.measure.value] : data.zones.map(() => 0);
    const sorted = values.filter((value) => value > 0).sort((a, b) => a - b);
    const limits = sorted.length ? shades.map((_, at) => sorted[Math.floor(sorted.length * at / shades.length)]) : [];
    const sign = form.measure.value === "1" ? "$" : "";
    group.setAttribute("fill", colour);
    data.zones.forEach((zone, at) => {
      let shade = 0;
      limits.forEach((limit, number) => { if (values[at] > 0 && values[at] >= limit) shade = shades[number]; });
      const path = paths.get(zone);
      path.setAttribute("fill-opacity", shade);
      path.firstChild.textContent = says(at);
    });
    boxes.forEach((box, at) => {
      box.firstChild.style.background = colour;
      box.lastChild.textContent = limits.length ? sign + short(limits[at]) : "";
    });
    for (const option of form.month.options) {
      const incomplete = data.incomplete[form.service.value].includes(option.value);
      option.textContent = option.textContent.replace(" (incomplete)", "") + (incomplete ? " (incomplete)" : "");
    }
    caption.textContent = found ? sentence(values) : none;
    line.textContent = found ? hint : none;
  }

  function point(event) {
    const zone = event.target.dataset && event.target.dataset.zone;
    if (zone) line.textContent = says(data.zones.indexOf(zone));
  }

  form.addEventListener("change", paint);
  ["pointerover", "click", "focusin"].forEach((kind) => group.addEventListener(kind, point));
  paint();
})();
