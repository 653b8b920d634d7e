"use strict";
(() => {
  const root = document.documentElement;

  // Copy buttons. If the clipboard is not available (an old browser, a frame), the text is selected instead.
  for (const button of document.querySelectorAll("[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    const announce = (label, status) => {
      button.textContent = label;
      document.getElementById("copy-status").textContent = status;
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    };
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.textContent);
        announce("Copied", "Copied to the clipboard");
      } catch {
        getSelection().selectAllChildren(source);
        announce("Selected", "Selected; copy it with the keyboard");
      }
    });
  }

  // A table wider than its box says so, since phones show no scrollbar before the first touch.
  const markCut = ({ target }) => {
    const box = target.closest(".scroll");
    box.classList.toggle("cut", box.scrollWidth > box.clientWidth + 1);
  };
  const sizes = new ResizeObserver((entries) => entries.forEach(markCut));
  for (const box of document.querySelectorAll(".scroll")) {
    const cue = document.createElement("p");
    cue.className = "cue";
    cue.ariaHidden = "true";
    cue.textContent = "Scroll the table sideways to see all columns \u2192";
    box.after(cue);
    sizes.observe(box);
    sizes.observe(box.firstElementChild);
  }

  const block = document.getElementById("figures");
  if (!block) return;
  const figures = JSON.parse(block.textContent);
  const touch = matchMedia("(pointer: coarse)");
  const config = { responsive: true, displayModeBar: false, doubleClick: "reset" };

  const isVisible = (box) => (box.checkVisibility ? box.checkVisibility() : box.offsetParent !== null);

  // Colours in figures are names of the page's CSS variables, so that figures follow the reader's colour scheme.
  const resolveColours = (value, styles, key = "") => {
    if (typeof value === "string") {
      return /color(scale)?$/.test(key) && value.startsWith("--") ? styles.getPropertyValue(value).trim() : value;
    }
    if (Array.isArray(value)) {
      const nested = key === "colorscale" || typeof value[0] === "object";
      return nested ? value.map((item) => resolveColours(item, styles, key)) : value;
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, resolveColours(item, styles, name)]));
  };

  // The printed layout cannot be measured during "beforeprint"; these sizes fit the narrower of A4 and letter.
  const printSize = { half: [310, 250], third: [190, 190], square: [285, 285], tile: [190, 190], wide: [640, 290], strip: [310, 70] };

  const drawOne = ({ key, shape, data, layout, frames }, styles, printing) => {
    const box = document.getElementById("plot-" + key);
    if (!isVisible(box)) return; // inside a collapsed section; drawn when it opens
    const resolved = resolveColours(layout, styles);
    resolved.font.family = getComputedStyle(document.body).fontFamily;
    // On touch screens, dragging must scroll the page rather than zoom.
    resolved.dragmode = touch.matches ? false : "zoom";
    resolved.autosize = !printing;
    if (printing) [resolved.width, resolved.height] = printSize[shape];
    const colouredData = resolveColours(data, styles);
    Plotly.react(box, { data: colouredData, layout: resolved, config, frames: resolveColours(frames, styles) });
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
    for (const fold of document.querySelectorAll("details")) {
      fold.addEventListener("toggle", () => {
        if (!fold.open || !fold.querySelector(".plot")) return;
        draw();
        for (const box of fold.querySelectorAll(".plot")) Plotly.Plots.resize(box); // the window may have changed
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

  start().catch(() => { document.getElementById("figures-failed").hidden = false; });
})();
