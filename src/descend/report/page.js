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

  // Figures describe their marks by titles, which browsers show after a while, and only to a mouse. Here they are shown at
  // once next to the pointer, with a vertical line where a figure has a description for each place.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.ariaHidden = "true";
  tip.hidden = true;
  document.body.append(tip);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  line.setAttribute("class", "crosshair");
  let marked = null;
  const hide = () => {
    tip.hidden = true;
    line.remove();
    if (marked) marked.classList.remove("marked");
    marked = null;
  };
  const middle = (mark) => {
    const box = mark.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  // The mark under the pointer, or else the nearest point within 20 pixels.
  const markAt = (chart, { target, clientX, clientY }) => {
    const distance = (mark) => Math.hypot(...middle(mark).map((at, side) => at - [clientX, clientY][side]));
    const near = [...chart.querySelectorAll("circle[data-tip]")].map((mark) => [distance(mark), mark]);
    const best = near.reduce((one, other) => (other[0] < one[0] ? other : one), [20, null])[1];
    return best || target.closest("[data-tip]");
  };
  const show = (chart, event) => {
    const mark = markAt(chart, event);
    if (mark === marked) return;
    hide();
    if (!mark) return;
    marked = mark;
    const [x, y] = middle(mark);
    if (mark.parentNode.classList.contains("columns")) {
      const at = parseFloat(mark.getAttribute("x")) + parseFloat(mark.getAttribute("width")) / 2 + "%";
      for (const [name, value] of Object.entries({ x1: at, x2: at, y1: 0, y2: "100%" })) line.setAttribute(name, value);
      mark.parentNode.before(line);
    } else {
      mark.classList.add("marked");
    }
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = x + 14 + width > root.clientWidth ? x - 14 - width : x + 14;
    tip.style.left = Math.min(Math.max(4, left), Math.max(4, root.clientWidth - width - 4)) + "px";
    tip.style.top = Math.min(Math.max(4, y - height / 2), innerHeight - height - 4) + "px";
  };
  for (const chart of document.querySelectorAll(".chart")) {
    for (const title of chart.querySelectorAll("title")) {
      title.parentNode.dataset.tip = title.textContent;
      title.remove();
    }
    chart.addEventListener("pointermove", (event) => show(chart, event));
    chart.addEventListener("pointerdown", (event) => show(chart, event));
    chart.addEventListener("pointerleave", ({ pointerType }) => { if (pointerType === "mouse") hide(); });
  }
  addEventListener("scroll", hide, { passive: true });
  addEventListener("pointerdown", ({ target }) => { if (!target.closest(".chart")) hide(); });
  addEventListener("keydown", ({ key }) => { if (key === "Escape") hide(); });
})();
