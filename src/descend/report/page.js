"use strict";
(() => {
  const root = document.documentElement;

  // Copy buttons. The clipboard may be refused (an old browser, a frame): the text is then selected instead.
  for (const button of document.querySelectorAll("[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    const say = (word, sentence) => {
      button.textContent = word;
      document.getElementById("said").textContent = sentence;
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    };
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.textContent);
        say("Copied", "Copied to the clipboard");
      } catch {
        getSelection().selectAllChildren(source);
        say("Selected", "Selected; copy it with the keyboard");
      }
    });
  }

  const block = document.getElementById("figures");
  if (!block) return;
  const figures = JSON.parse(block.textContent);
  const touch = matchMedia("(pointer: coarse)");
  const config = { responsive: true, displayModeBar: false, doubleClick: "reset" };

  const seen = (place) => (place.checkVisibility ? place.checkVisibility() : place.offsetParent !== null);

  // A colour in a figure is the name of one of the page's variables, so both follow the reader's colour scheme.
  const coloured = (value, styles, key = "") => {
    if (typeof value === "string") {
      return /color(scale)?$/.test(key) && value.startsWith("--") ? styles.getPropertyValue(value).trim() : value;
    }
    if (Array.isArray(value)) {
      return key === "colorscale" || typeof value[0] === "object" ? value.map((item) => coloured(item, styles, key)) : value;
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, coloured(item, styles, name)]));
  };

  // Paper has no layout to measure while its event runs: sizes that fit the narrower of A4 and letter.
  const paper = { half: [310, 250], third: [190, 190], square: [285, 285], tile: [190, 190], wide: [640, 290], strip: [310, 70] };

  const drawOne = ({ key, shape, data, layout, frames }, styles, printing) => {
    const place = document.getElementById("plot-" + key);
    if (!seen(place)) return; // inside something closed; drawn when that opens
    const shown = coloured(layout, styles);
    shown.font.family = getComputedStyle(document.body).fontFamily;
    // A finger on a figure scrolls the page, so it must not select a range instead.
    shown.dragmode = touch.matches ? false : "zoom";
    shown.autosize = !printing;
    if (printing) [shown.width, shown.height] = paper[shape];
    Plotly.react(place, { data: coloured(data, styles), layout: shown, config, frames: coloured(frames, styles) });
  };

  const draw = (printing = false) => {
    const styles = getComputedStyle(root);
    for (const figure of figures) drawOne(figure, styles, printing);
    root.dataset.drawn = document.querySelectorAll(".plot.js-plotly-plot").length;
  };

  const inflate = (packed) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  };

  const start = async () => {
    const library = document.createElement("script");
    library.textContent = await inflate(document.getElementById("library").textContent);
    document.head.append(library);
    draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
    for (const fold of document.querySelectorAll("details")) {
      fold.addEventListener("toggle", () => {
        if (!fold.open || !fold.querySelector(".plot")) return;
        draw();
        for (const place of fold.querySelectorAll(".plot")) Plotly.Plots.resize(place); // the window may have changed
      });
    }
    addEventListener("beforeprint", () => {
      root.classList.add("printing");
      draw(true);
    });
    addEventListener("afterprint", () => {
      root.classList.remove("printing");
      draw();
    });
  };

  start().catch(() => { document.getElementById("undrawn").hidden = false; });
})();
