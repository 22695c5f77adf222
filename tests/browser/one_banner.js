// Checks for one banner over the full width, with nothing cut and nothing else displaced. Returns what is wrong.
const wrong = [];
const check = (holds, words) => holds || wrong.push(words);
const banners = [...document.querySelectorAll(".alarm[id]")].filter((banner) => !banner.hidden);
check(banners.length === 1, `${banners.length} banners`);
for (const banner of banners) {
  const box = banner.getBoundingClientRect();
  check(box.left === 0 && Math.abs(box.width - innerWidth) < 1, `the banner is ${box.width} wide, of ${innerWidth}`);
  check(box.top >= 0 && box.bottom < innerHeight * 0.6, `the banner is from ${box.top} to ${box.bottom}, of ${innerHeight}`);
  for (const part of banner.querySelectorAll("p:not(.reason)")) {
    check(part.scrollWidth <= part.clientWidth, `cut: ${part.textContent}`);
  }
}
check(document.documentElement.scrollWidth <= innerWidth, `${document.documentElement.scrollWidth} wide, of ${innerWidth}`);
const [clock, brand] = ["#clock", ".brand"].map((part) => document.querySelector(part)?.getBoundingClientRect());
if (clock?.width) {
  check(clock.top < brand.bottom && brand.top < clock.bottom, `the clock is at ${clock.top}, the name at ${brand.top}`);
  check(clock.right <= innerWidth && clock.height < 2.5 * parseFloat(getComputedStyle(document.documentElement).fontSize), "the clock is broken");
}
const head = document.querySelector(".head").getBoundingClientRect();
for (const value of document.querySelectorAll(".health dl")) {
  const box = value.getBoundingClientRect();
  check(box.right <= innerWidth && box.bottom <= head.bottom, `${value.innerText} leaves the head`);
}
for (const part of document.querySelectorAll("#tiles .top, #tiles .since, #tiles .name, #tiles .note")) {
  check(part.scrollWidth <= part.clientWidth + 1, `a tile cuts ${part.innerText}`);
}
return wrong;
