// The state of an account as a badge: a shape and a colour for the eye, and a word.

import { el, setText } from "./dom.js";

export function badge() {
    const word = el("span", { class: "word" });
    // The shape differs with the colour, for those who see no colours.
    const element = el("span", { class: "badge" }, el("span", { class: "shape", "aria-hidden": "true" }), word);
    let tone = "";
    return {
        element,
        show(described) {
            setText(word, described.word);
            if (tone === described.tone) return;
            tone = described.tone;
            element.className = `badge ${tone}`;
        },
    };
}
