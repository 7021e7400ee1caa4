// Run inside a report by test_browser.py: use the first scrubber as a reader would, write what is seen into the title.
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
for (let k = 0; k < 100 && !document.querySelector("[data-ready]"); k++) await wait(20);
const root = document.querySelector("[data-ready]"), seen = {};
const one = (selector) => root.querySelector(selector), all = (selector) => [...root.querySelectorAll(selector)];
const label = () => one(".als-step").textContent, read = () => one(".als-read").textContent;
const key = (name, on = root) => on.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
const change = (box, value) => ((box.value = value), box.dispatchEvent(new Event("change")));
const colours = (canvas) => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
};

key("ArrowLeft");
seen.left = label();
seen.hash = location.hash;
key("Home");
key("ArrowLeft");
seen.home = label();
key("ArrowRight", one("[type=range]"));
seen.right = label();
key("End");
seen.end = label();
one("[type=range]").value = 3;
one("[type=range]").dispatchEvent(new Event("input"));
seen.slider = label();

const [canvas, , last] = all(".als-maps canvas"), box = canvas.getBoundingClientRect();
const place = { bubbles: true, clientX: box.left + 42 + canvas.d * 0.5, clientY: box.top + 6 + canvas.d * 1.5 };
canvas.dispatchEvent(new MouseEvent("mousemove", place));
seen.hover = read();
canvas.dispatchEvent(new MouseEvent("mouseleave", place));
seen.left_map = read().trim();
canvas.dispatchEvent(new MouseEvent("click", place));
seen.click = read();
seen.cell = location.hash;

const [seed, first] = all("select");
change(seed, 1);
seen.seed = read();
change(first, 1);
canvas.dispatchEvent(new MouseEvent("mousemove", place));
seen.panel = read();
seen.map_colours = colours(canvas);
seen.curve_colours = colours(all("canvas").pop());
key("End");
last.dispatchEvent(new MouseEvent("mousemove", { ...place, clientX: last.getBoundingClientRect().left + 50 }));
seen.broken = read();

const play = one("button");
play.click();
seen.playing = play.textContent;
await wait(1500);
seen.played = label();
seen.stopped = play.textContent;
document.title = JSON.stringify(seen);
