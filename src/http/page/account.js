// The view of one account.

import { actionBar } from "./actions.js";
import * as api from "./api.js";
import { badge } from "./badge.js";
import { codePanel } from "./code_panel.js";
import { alertBox, el, setText } from "./dom.js";
import { factsPanel } from "./facts.js";
import { fullTime, time } from "./formats.js";
import { logPanel } from "./log.js";
import { advice, describe, nextStart, reason, sentence } from "./state.js";
import * as store from "./store.js";
import { LANGUAGE, has, t } from "./texts.js";

/** How often the account is asked for, in milliseconds: what it uses is in no event. */
const REFRESH_EVERY = 5000;
/** Changes come in bursts; one explanation for all of them. */
const EXPLAIN_AFTER = 300;

/** What happened, in the user's language where this page knows the event. */
function happening({ code, text, detail }) {
    if (!has(`event_${code}`)) return text;
    const event = t(`event_${code}`);
    return detail ? t("event_because", { event, detail }) : event;
}

const back = () => el("a", { class: "back", href: "#/", textContent: t("all_accounts") });

/** A part of the status that is there only with a text. */
function part(title) {
    const list = el("ul");
    const element = el("div", { class: "part", hidden: true }, el("h2", { textContent: title }), list);
    let shown = "";
    return {
        element,
        set(texts) {
            const all = texts.filter(Boolean);
            element.hidden = all.length === 0;
            if (shown === all.join("\n")) return;
            shown = all.join("\n");
            list.replaceChildren(...all.map((textContent) => el("li", { textContent })));
        },
    };
}

/** The view. */
export function accountView({ name, canChange }) {
    const heading = el("h1", { id: "heading", tabIndex: -1, textContent: name });
    const state = badge();
    const chat = el("a", {
        class: "button",
        href: `#/chat/${encodeURIComponent(name)}`,
        textContent: t("chat_open"),
        hidden: true,
    });
    const alerts = alertBox();
    // Read out when the state changes.
    const says = el("p", { class: "says", "aria-live": "polite" });
    const [why, todo, next] = [part(t("why")), part(t("what_to_do")), part(t("next"))];
    const events = el("ol", { class: "events" });
    const history = el(
        "section",
        { class: "card", hidden: true, "aria-labelledby": "history-title" },
        el("h2", { id: "history-title", textContent: t("history") }),
        events,
    );
    const code = codePanel({ name, canChange, fail: alerts.show });
    const facts = factsPanel();
    const log = logPanel(name);
    const actions = canChange
        ? actionBar({
              name,
              fail: alerts.show,
              clear: alerts.clear,
              removed: () => (location.hash = "#/"),
          })
        : null;
    const status = el(
        "section",
        { class: "card status", "aria-label": t("status") },
        says,
        why.element,
        todo.element,
        next.element,
        // Above the buttons: it has to be seen without scrolling.
        code.element,
        actions?.element ?? null,
    );
    const present = el(
        "div",
        { class: "account" },
        el("div", { class: "main" }, status, log.element),
        el("div", { class: "side" }, facts.element, history),
    );
    const absent = el("div", { class: "card", hidden: true }, el("p", { textContent: t("no_account_why") }));
    const element = el(
        "section",
        {},
        back(),
        el("div", { class: "top" }, heading, state.element, chat),
        alerts.element,
        absent,
        present,
    );

    let explanation = null;
    let told = "";
    let explaining = null;
    let ended = false;

    function draw() {
        const account = store.get(name);
        const gone = !account && store.isComplete();
        absent.hidden = !gone;
        present.hidden = !account;
        state.element.hidden = !account;
        setText(heading, gone ? t("no_account", { name }) : name);
        log.set(Boolean(account));
        chat.hidden = account?.backend !== "sandbox";
        if (!account) return code.set(false);
        const described = describe(account);
        state.show(described);
        setText(says, sentence(account, described.kind));
        drawReasons(account, described.kind);
        facts.set(account);
        actions?.set(account);
        const waits = described.kind === "code";
        if (waits || !code.element.hidden) code.set(waits);
        const now = JSON.stringify([
            described.kind,
            account.reason,
            account.login?.state,
            account.client.phase,
            nextStart(account),
        ]);
        if (now === told) return;
        told = now;
        clearTimeout(explaining);
        explaining = setTimeout(explain, EXPLAIN_AFTER);
    }

    function drawReasons(account, kind) {
        const own = advice(account, kind);
        const theirs = explanation?.advice ?? [];
        // The page says the usual in the user's language, and the controller more of the case, in English. Of that, what is to be
        // typed into a terminal is not for this page, whose buttons do the same.
        const both = [own, ...theirs.filter((line) => !line.includes("wqctl"))];
        why.set([reason(account, kind)]);
        const readOnly = !canChange && own && kind !== "code" && kind !== "confirming" ? t("do_read_only") : null;
        todo.set([...both, readOnly]);
        const again = nextStart(account);
        next.set([again !== null ? t("next_start", { time: time(again) }) : explanation?.next?.text]);
    }

    async function explain() {
        try {
            explanation = await api.explain(name);
        } catch {
            // The view has its own words for what is usual.
            explanation = null;
        }
        if (ended) return;
        const account = store.get(name);
        if (account) drawReasons(account, describe(account).kind);
        // The newest first. They come in their order, which their times alone do not tell.
        const happened = [...(explanation?.events ?? [])].reverse();
        history.hidden = happened.length === 0;
        events.replaceChildren(
            ...happened.map((event) =>
                el(
                    "li",
                    {},
                    el("time", { textContent: time(event.time), title: fullTime(event.time) }),
                    el("span", { textContent: happening(event) }),
                ),
            ),
        );
    }

    async function refresh() {
        if (document.hidden || !store.get(name)) return;
        const asked = store.moment();
        // A failure shows as a lost connection.
        await api.account(name).then(
            (account) => store.take(account, asked),
            () => {},
        );
    }

    const unsubscribe = store.subscribe((names) => (names.has(name) || !store.get(name)) && draw());
    const timer = setInterval(refresh, REFRESH_EVERY);
    draw();
    return {
        element,
        heading,
        title: name,
        end() {
            ended = true;
            unsubscribe();
            clearInterval(timer);
            clearTimeout(explaining);
            code.end();
            log.end();
        },
    };
}
