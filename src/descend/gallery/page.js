"use strict";
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const touch = matchMedia("(pointer: coarse)");
  const config = { responsive: true, displayModeBar: false, doubleClick: "reset" };

  // Colors in figures are names of the page's CSS variables, so that figures follow the reader's color scheme.
  const resolveColors = (value, styles, key = "") => {
    if (typeof value === "string") {
      return /color(scale)?$/.test(key) && value.startsWith("--") ? styles.getPropertyValue(value).trim() : value;
    }
    if (Array.isArray(value)) {
      const nested = key === "colorscale" || typeof value[0] === "object";
      return nested ? value.map((item) => resolveColors(item, styles, key)) : value;
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, resolveColors(item, styles, name)]));
  };

  // The printed layout cannot be measured during "beforeprint"; these sizes fit the narrower of A4 and letter.
  const printSize = { half: [310, 250], third: [190, 190], square: [285, 285], tile: [190, 190], wide: [640, 290], strip: [310, 70] };

  const drawOne = ({ key, shape, data, layout, frames }, styles, printing) => {
    const box = document.getElementById("plot-" + key);
    const resolved = resolveColors(layout, styles);
    resolved.font.family = getComputedStyle(document.body).fontFamily;
    // On touch screens, dragging must scroll the page rather than zoom.
    resolved.dragmode = touch.matches ? false : "zoom";
    resolved.autosize = !printing;
    if (printing) [resolved.width, resolved.height] = printSize[shape];
    const coloredData = resolveColors(data, styles);
    Plotly.react(box, { data: coloredData, layout: resolved, config, frames: resolveColors(frames, styles) });
  };

  const draw = (printing = false) => {
    const styles = getComputedStyle(root);
    for (const figure of figures) drawOne(figure, styles, printing);
    root.dataset.drawn = document.querySelectorAll(".plot.js-plotly-plot").length;
  };

  const inflate = (compressed) => {
    const bytes = Uint8Array.from(atob(compressed), (character) => character.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  };

  const start = async () => {
    const library = document.createElement("script");
    library.textContent = await inflate(document.getElementById("library").textContent);
    document.head.append(library);
    draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
    addEventListener("beforeprint", () => {
      root.classList.add("printing");
      draw(true);
    });
    addEventListener("afterprint", () => {
      root.classList.remove("printing");
      draw();
    });
  };

  start().catch(() => { document.getElementById("figures-failed").hidden = false; });
})();
