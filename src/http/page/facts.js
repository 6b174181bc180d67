// What is known of an account besides its state: its number, its processes, what they use, its parameters.

import { now } from "./api.js";
import { el } from "./dom.js";
import { count, duration, size } from "./formats.js";
import { t } from "./texts.js";

const PHASES = ["reserved", "starting", "up", "stopping", "gone"];
const LOGINS = ["starting", "code", "confirming", "online", "offline", "put_out", "unknown"];

/** A word of the API as a text; one that a newer controller may have is shown as it is. */
function word(kind, known, value) {
    return known.includes(value) ? t(`${kind}_${value}`) : value;
}

function withTime(state, since) {
    return since ? t("for_time", { state, time: duration(now() - since) }) : state;
}

function processText(process) {
    const phase = word("phase", PHASES, process.phase);
    return withTime(process.pid ? t("with_pid", { phase, pid: process.pid }) : phase, process.since);
}

function loginText(login) {
    return withTime(word("login", LOGINS, login.state), login.since);
}

function memoryText(usage, limits) {
    const used = size(usage.memory);
    return limits?.memory_max ? t("of_at_most", { used, most: size(limits.memory_max) }) : used;
}

function factsOf(account) {
    const { client, implementation, login, usage, queues, limits } = account;
    const other = implementation?.process;
    const facts = [
        ["uin", login?.uin],
        ["nickname", login?.nickname],
        ["login", login && loginText(login)],
        ["program", implementation?.name ?? account.backend],
        ["machine", account.machine],
        ["client", processText(client)],
        ["implementation", other && processText(other)],
        ["port", client.port && String(client.port)],
        ["memory", usage && memoryText(usage, limits)],
        ["cpu", usage && Number.isFinite(usage.cpu) ? duration(usage.cpu) : null],
        ["reports", queues?.reports ? count(queues.reports) : null],
        ["messages", queues?.messages ? count(queues.messages) : null],
        ["exits", client.exits + (other?.exits ?? 0) > 0 ? count(client.exits + (other?.exits ?? 0)) : null],
        ["last_exit", client.last_exit ?? other?.last_exit],
        ["unit", client.unit],
    ];
    return facts.filter(([, value]) => value);
}

function pairs(entries) {
    return entries.flatMap(([term, value]) => [el("dt", { textContent: term }), el("dd", { textContent: value })]);
}

/** The panel. */
export function factsPanel() {
    const facts = el("dl");
    const parameters = el("dl", { class: "plain" });
    const none = el("p", { class: "muted", textContent: t("no_parameters") });
    const element = el(
        "section",
        { class: "card facts", "aria-labelledby": "facts-title" },
        el("h2", { id: "facts-title", textContent: t("details") }),
        facts,
        el("h3", { textContent: t("parameters") }),
        parameters,
        none,
    );
    let shown = "";
    return {
        element,
        set(account) {
            const entries = factsOf(account).map(([key, value]) => [t(`fact_${key}`), value]);
            const given = Object.entries(account.parameters ?? {});
            // Unchanged text stays, so that what the user has selected stays selected.
            const all = JSON.stringify([entries, given]);
            if (all === shown) return;
            shown = all;
            facts.replaceChildren(...pairs(entries));
            parameters.replaceChildren(...pairs(given));
            none.hidden = given.length > 0;
        },
    };
}
