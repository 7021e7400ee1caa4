// A scrubber over training: heat maps, a step slider, curves. One module for Jupyter (anywidget) and static pages; loads nothing.
// Frames are bytes [S, N, R, C]: value = lo[s][n] + byte * (hi[s][n] - lo[s][n]) / 255; lo is null where it was not finite.
const STOPS = {
  sequential: ["#ffffff", "#dbe9f6", "#9dc9e2", "#4393c7", "#08519c", "#08234d"],
  diverging: ["#053c6e", "#3f8fc4", "#c3dcec", "#ffffff", "#f9cbae", "#dd6f3a", "#7d1d0a"],
};
const make = (tag, props) => Object.assign(document.createElement(tag), props);
const fmt = (x) => (x && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5) ? x.toExponential(2) : String(+x.toPrecision(3)));
const nearest = (list, x) => list.reduce((best, v, k) => (Math.abs(v - x) < Math.abs(list[best] - x) ? k : best), 0);

function paper(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
  Object.assign(canvas, { width: width * ratio, height: height * ratio, unit: width }).style.width = width + "px";
  pen.scale(ratio, ratio);
  pen.font = "10px system-ui,sans-serif";
  pen.fillStyle = pen.strokeStyle = getComputedStyle(canvas).color;
  return pen;
}
function ramp(kind) {
  const pen = make("canvas", { width: 256, height: 1 }).getContext("2d");
  pen.fillStyle = pen.createLinearGradient(0, 0, 256, 0);
  STOPS[kind].forEach((stop, k, all) => pen.fillStyle.addColorStop(k / (all.length - 1), stop));
  pen.fillRect(0, 0, 256, 1);
  return pen.getImageData(0, 0, 256, 1).data;
}
async function unpack(p) {
  const raw = Uint8Array.from(atob(p.frames), (c) => c.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  const finite = (rows) => rows.flat().filter((x) => x !== null);
  Object.assign(p, { bytes: new Uint8Array(await new Response(stream).arrayBuffer()), ramp: ramp(p.kind) });
  Object.assign(p, { R: p.row_labels.length, C: p.col_labels.length, min: Math.min(...finite(p.lo)), max: Math.max(...finite(p.hi)) });
}

export async function mount(root, data, { start = {}, moved = () => {} }) {
  const { steps, seeds, panels, curves } = data, names = Object.keys(curves), last = steps.length - 1;
  await Promise.all(panels.map(unpack));
  const at = { n: last, s: 0, cell: null, curve: 0 };
  let timer = 0;
  root.className = "als";
  root.tabIndex = 0;
  root.innerHTML = `<div class=als-bar><button></button><input type=range min=0 max=${last} aria-label="training step"><span class=als-step>
    </span><select aria-label=seed></select><label><input type=checkbox checked> same colours at all steps</label></div><div class=als-maps>
    </div><div class=als-read></div><div class=als-bar><select aria-label=curve></select><span class=als-note>click a cell for its value
    over training; arrow keys step, space plays</span></div><canvas></canvas><div class=als-note></div>`;
  const [play, slider, label, seedBox, fixed, maps, read, curveBox, curve, note] = root.querySelectorAll(
    "button,[type=range],.als-step,select,[type=checkbox],.als-maps,.als-read,canvas,:scope>.als-note");
  note.textContent = data.note;
  const fill = (box, items, pick, on) => {
    items.forEach((name, k) => box.add(new Option(name, k)));
    Object.assign(box, { value: pick, hidden: !items.length, onchange: () => on(+box.value) });
  };
  const set = (change, tell = true) => {
    Object.assign(at, change);
    draw();
    if (tell) moved(steps[at.n], seeds[at.s], at.cell);
  };
  const go = (n) => set({ n: Math.min(Math.max(n, 0), last) });
  fill(seedBox, seeds.map((s) => "seed " + s), 0, (s) => set({ s }));
  fill(curveBox, names, 0, (k) => set({ curve: k, cell: null }));
  const slots = panels.slice(0, 3).map((_, k) => {
    const slot = { k, box: make("select"), canvas: make("canvas"), bar: make("div", { className: "als-ramp" }) };
    const scale = make("div", { className: "als-scale" }), holder = make("div"), { canvas } = slot;
    scale.append((slot.a = make("span")), (slot.b = make("span")));
    holder.append(slot.box, canvas, slot.bar, scale);
    maps.append(holder);
    fill(slot.box, panels.map((p) => p.name), k, (pick) => {
      slot.k = pick;
      set({ cell: null });
    });
    const hit = (event) => {
      const p = panels[slot.k], zoom = canvas.unit / canvas.clientWidth;
      const c = Math.floor((event.offsetX * zoom - 42) / canvas.d), r = Math.floor((event.offsetY * zoom - 6) / canvas.d);
      return r >= 0 && c >= 0 && r < p.R && c < p.C ? [slot.k, r, c] : null;
    };
    canvas.onmousemove = (event) => say(hit(event) || at.cell);
    canvas.onmouseleave = () => say(at.cell);
    canvas.onclick = (event) => set({ cell: hit(event) });
    return slot;
  });

  function value([k, r, c], n, s) {
    const p = panels[k], lo = p.lo[s][n];
    return lo === null ? null : lo + (p.bytes[((s * steps.length + n) * p.R + r) * p.C + c] * (p.hi[s][n] - lo)) / 255;
  }
  function say(cell) {
    if (!cell) return void (read.textContent = "\u00a0");
    const [k, r, c] = cell, p = panels[k], x = value(cell, at.n, at.s);
    read.textContent = `${p.name}: ${p.row_title} ${p.row_labels[r]} (${r}), ${p.col_title} ${p.col_labels[c]} (${c}) = `
      + (x === null ? "not finite" : fmt(x));
  }
  function drawMap({ k, canvas, bar, a, b }) {
    const p = panels[k], width = Math.max(240, Math.min(400, root.clientWidth / slots.length - 14)), d = (width - 48) / Math.max(p.R, p.C), w = d * p.C, tall = d * p.R;
    const pen = paper(canvas, width, tall + 38), lo = p.lo[at.s][at.n], hi = p.hi[at.s][at.n];
    canvas.d = d;
    let [from, to] = fixed.checked || lo === null ? [p.min, p.max] : [lo, hi];
    if (p.kind === "diverging") from = -(to = Math.max(Math.abs(from), Math.abs(to)));
    if (lo !== null) {
      const image = new ImageData(p.C, p.R), size = p.R * p.C, first = (at.s * steps.length + at.n) * size;
      for (let i = 0; i < size; i++) {
        const t = to > from ? (lo + (p.bytes[first + i] * (hi - lo)) / 255 - from) / (to - from) : 0.5, q = 4 * Math.round(255 * t);
        image.data.set(p.ramp.subarray(q, q + 4), 4 * i);
      }
      const small = make("canvas", { width: p.C, height: p.R });
      small.getContext("2d").putImageData(image, 0, 0);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(small, 42, 6, w, tall);
    } else pen.fillText("not finite", 60, 30);
    pen.lineWidth = 0.4;
    pen.strokeRect(42, 6, w, tall);
    const skip = Math.ceil(10 / d);
    pen.textAlign = "right";
    for (let r = 0; r < p.R; r += skip) pen.fillText(p.row_labels[r].slice(0, 4), 38, 9 + (r + 0.5) * d);
    pen.textAlign = "center";
    for (let c = 0, free = 0; c < p.C; c += skip) {
      const text = p.col_labels[c].slice(0, 4), x = 42 + (c + 0.5) * d, half = pen.measureText(text).width / 2;
      if (x - half >= free) pen.fillText(text, x, tall + 18, (free = x + half + 2));
    }
    pen.fillText(p.col_title, 42 + w / 2, tall + 33);
    pen.rotate(-Math.PI / 2);
    pen.fillText(p.row_title, -6 - tall / 2, 9);
    bar.style.background = `linear-gradient(to right,${STOPS[p.kind]})`;
    [a.textContent, b.textContent] = [fmt(from), fmt(to)];
  }
  function drawCurve() {
    const width = Math.max(280, root.clientWidth), pen = paper(curve, width, 130), { cell } = at;
    const xs = cell ? steps : data.curve_steps, name = cell ? "cell" : names[at.curve];
    const lines = cell ? seeds.map((_, s) => steps.map((_, n) => value(cell, n, s))) : curves[name] || [];
    const all = lines.flat().filter((y) => y !== null), low = Math.min(...all), high = Math.max(...all), end = xs[xs.length - 1];
    if (!all.length) return;
    const f = low > 0 && high / low > 30 ? Math.log : (y) => y;
    const X = (curve.X = (t) => 46 + ((width - 60) * Math.log1p(t)) / Math.log1p(Math.max(end, 1)));
    const Y = (y) => 112 - (100 * (f(y) - f(low))) / (f(high) - f(low) || 1);
    pen.textAlign = "right";
    [low, high].forEach((y) => pen.fillText(fmt(y), 42, Y(y) + 3));
    pen.textAlign = "center";
    [0, 10, 100, 1e3, 1e4, 1e5, 1e6].forEach((t) => t <= end && pen.fillText(t < 1e3 ? t : t / 1e3 + "k", X(t), 127));
    pen.strokeStyle = "#3f8fc4";
    lines.forEach((line, s) => {
      pen.globalAlpha = s === at.s ? 1 : 0.25;
      pen.beginPath();
      line.forEach((y, k) => y !== null && pen[k && line[k - 1] !== null ? "lineTo" : "moveTo"](X(xs[k]), Y(y)));
      pen.stroke();
    });
    const k = nearest(xs, steps[at.n]), y = lines[at.s][k], x = X(xs[k]), right = x > width / 2;
    if (y === null) return;
    pen.globalAlpha = 1;
    pen.textAlign = right ? "right" : "left";
    pen.fillText(`${name}${f === Math.log ? " (log)" : ""} ${fmt(y)}`, x + (right ? -9 : 9), Y(y) + (Y(y) > 30 ? -7 : 14));
    pen.fillStyle = "#dd6f3a";
    pen.beginPath();
    pen.arc(x, Y(y), 4.5, 0, 7);
    pen.fill();
  }
  function draw() {
    slider.value = at.n;
    seedBox.value = at.s;
    slider.ariaValueText = label.textContent = "step " + steps[at.n];
    slots.forEach(drawMap);
    drawCurve();
    say(at.cell);
  }
  const stop = () => (timer = clearInterval(timer), play.textContent = "▶ play");
  play.onclick = () => {
    if (timer) return stop();
    play.textContent = "❚❚ pause";
    if (at.n === last) go(0);
    timer = setInterval(() => (at.n < last && root.isConnected ? go(at.n + 1) : stop()), 120);
  };
  slider.oninput = () => go(+slider.value);
  fixed.onchange = draw;
  curve.onclick = (event) => curve.X && go(nearest(steps.map(curve.X), (event.offsetX * curve.unit) / curve.clientWidth));
  root.onkeydown = (event) => {
    const act = { ArrowLeft: () => go(at.n - 1), ArrowRight: () => go(at.n + 1), Home: () => go(0), End: () => go(last), " ": play.onclick }[event.key];
    if (!act || event.target.matches("select") || (event.key === " " && event.target.matches("button,[type=checkbox]"))) return;
    event.preventDefault();
    act();
  };
  let seen = 0;
  const watch = new ResizeObserver(() => root.clientWidth !== seen && draw((seen = root.clientWidth)));
  const jump = ({ step, seed, cell }) => {
    const s = seeds.findIndex((x) => String(x) === String(seed)), p = cell && panels[cell[0]];
    const ok = p && +cell[1] < p.R && +cell[2] < p.C;
    set({ n: step >= 0 ? nearest(steps, +step) : at.n, s: s < 0 ? at.s : s, cell: ok ? cell.map(Number) : at.cell }, false);
  };
  stop();
  jump(start);
  watch.observe(root);
  root.dataset.ready = 1;
  return { jump, close: () => (stop(), watch.disconnect()) };
}

// In a static page #step=1500&seed=1&cell=0.5.3 (panel, row, column) is a link to a place.
export async function mountPage() {
  const place = () => {
    const { step, seed, cell } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    return { step, seed, cell: cell?.split(".") };
  };
  const moved = (step, seed, cell) => history.replaceState(null, "", `#step=${step}&seed=${seed}${cell ? "&cell=" + cell.join(".") : ""}`);
  for (const root of document.querySelectorAll("[data-scrubber]")) {
    const view = await mount(root, JSON.parse(document.getElementById(root.dataset.scrubber).textContent), { start: place(), moved });
    window.addEventListener("hashchange", () => view.jump(place()));
  }
}

export default {
  async render({ model, el }) {
    const moved = (step) => (model.set("step", step), model.save_changes());
    const view = await mount(el.appendChild(make("div")), JSON.parse(model.get("data")), { start: { step: model.get("step") }, moved });
    model.on("change:step", () => view.jump({ step: model.get("step") }));
    return view.close;
  },
};
