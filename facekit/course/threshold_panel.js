// The threshold panel where no kernel runs: it counts the same probes by the same best scores.
((panel, { rules, words, left, width }) => {
  const ANSWERS = {  // accepted or refused, what is a probe whose best identity is right, wrong,
    r: ["named_right", "refused"],
    w: ["named_wrong", "refused"],
    s: ["stranger_named", "stranger_refused"],  // or a stranger's
  };
  const slider = panel.querySelector("input");
  const selector = panel.querySelector("select");
  const pictures = [...panel.querySelectorAll(".facekit-curves")];

  // As Python writes it: a half to the even digit, 56.25 % as 56.2 %.
  function text(number, digits) {
    const places = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    const rounding = { roundingMode: "halfEven", useGrouping: false };
    return number.toLocaleString("en", { ...places, ...rounding });
  }

  function percent(part, whole, digits = 1) {
    return whole ? `${text(100 * (part / whole), digits)}%` : "nan%";
  }

  function count(rule, threshold) {
    const counts = Object.fromEntries(Object.values(ANSWERS).flat().map(kind => [kind, 0]));
    rule.best.forEach((score, probe) => {
      const [accepted, refused] = ANSWERS[rule.probes[probe]];
      counts[score >= threshold ? accepted : refused] += 1;
    });
    return counts;
  }

  function show() {
    const rule = rules[selector.selectedIndex];
    const threshold = rule.low + slider.value * rule.step;
    const counts = count(rule, threshold);
    const known = counts.named_right + counts.named_wrong + counts.refused;
    const strangers = counts.stranger_named + counts.stranger_refused;
    const values = {
      threshold: text(threshold, 3),
      accuracy: percent(counts.named_right + counts.stranger_refused, known + strangers),
      known: percent(known, known + strangers, 0),
      dir: percent(counts.named_right, known),
      strangers: percent(strangers, known + strangers, 0),
      fpir: percent(counts.stranger_named, strangers),
    };
    panel.querySelector("[aria-live]").textContent =
      words.replace(/{(\w+)}/g, (_, name) => values[name]);
    slider.setAttribute("aria-valuetext", values.threshold);
    for (const [kind, number] of Object.entries(counts)) {
      const [, , total, share] = panel.querySelector(`[data-kind=${kind}]`).cells;
      const group = kind.startsWith("stranger") ? strangers : known;
      total.textContent = number;
      share.textContent = share.textContent.replace(/^[\d.]+%/, percent(number, group));
    }
    const line = pictures[selector.selectedIndex].querySelector(".facekit-line");
    line.style.left = `${100 * (left + width * slider.value / rule.places)}%`;
  }

  function begin() {
    const rule = rules[selector.selectedIndex];
    slider.max = rule.places;
    slider.value = rule.start;
    pictures.forEach((picture, place) => { picture.hidden = place !== selector.selectedIndex; });
    show();
  }

  slider.addEventListener("input", show);
  selector.addEventListener("change", begin);
  panel.querySelector(".facekit-controls").hidden = false;
  begin();
})
