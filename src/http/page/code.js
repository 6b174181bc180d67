// The login code: its image, and how long it can still be scanned.

import { now } from "./api.js";
import { el, setText } from "./dom.js";
import { countdown } from "./formats.js";
import { t } from "./texts.js";

/** Shows codes of the account `name`. `expired` is called once when one can no longer be scanned. */
export function codeImage({ name, expired = () => {} }) {
    const image = el("img", { alt: t("code_alt", { name }), draggable: false });
    const life = el("p", { class: "life" });
    const box = el("div", { class: "code-box" }, image);
    const element = el("div", { class: "code", hidden: true }, box, life);
    let expires = null;
    let told = false;

    image.addEventListener("load", () => {
        // Small images have a pixel for each module: enlarged with soft edges they are harder to scan.
        image.classList.toggle("small", image.naturalWidth < 320);
    });

    function tick() {
        if (element.hidden) return;
        const left = expires === null ? null : expires - now();
        const over = left !== null && left <= 0;
        box.classList.toggle("over", over);
        setText(life, left === null ? t("code_renewed") : over ? t("code_expired") : t("code_left", { time: countdown(left) }));
        if (over && !told) expired();
        told = over;
    }

    const timer = setInterval(tick, 250);
    return {
        element,
        /** Shows a code, unless it is the one that is shown. Returns whether it is another one. */
        show(code) {
            const other = element.hidden || image.src !== code.image;
            if (image.src !== code.image) image.src = code.image;
            expires = code.expires ?? null;
            element.hidden = false;
            told = false;
            tick();
            return other;
        },
        hide() {
            element.hidden = true;
            image.removeAttribute("src");
        },
        end: () => clearInterval(timer),
    };
}
