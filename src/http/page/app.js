// The frame of the page: who the caller is, which view is shown, and whether the controller is there.

import { accountView } from "./account.js";
import { addView } from "./add.js";
import * as api from "./api.js";
import { chatView } from "./chat.js";
import { announce, el } from "./dom.js";
import { listView } from "./list.js";
import { signInView } from "./signin.js";
import * as store from "./store.js";
import { t } from "./texts.js";

const main = document.getElementById("main");
const notice = document.getElementById("notice");
const corner = document.getElementById("corner");

let session = null;
let view = null;
/** The list is kept while another view is shown: coming back, all is as it was. */
let list = null;
let listScroll = 0;
let needing = 0;
let connection = "";
/** Why the controller starts and stops no account. */
let trouble = null;

/** A fault of the page itself must not look like an account that does not change. */
function fault(error) {
    notice.textContent = t("page_failed", { detail: error?.message ?? String(error) });
    notice.className = "notice bad";
    notice.hidden = false;
}

addEventListener("error", (event) => fault(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => fault(event.reason));

function showTitle() {
    const amount = needing > 0 ? `(${needing}) ` : "";
    document.title = `${amount}${view?.title ?? t("title")} – ${t("title")}`;
}

/** `detail` is there instead of the usual text where the controller answers, and refuses. */
function connectionIs(state, detail = null) {
    if (connection === "lost" && state === "live") announce(t("back_online"));
    connection = state;
    const isTroubled = state === "live" && trouble !== null;
    notice.className = isTroubled ? "notice bad" : "notice";
    notice.hidden = state === "live" && !isTroubled;
    const live = isTroubled ? t("controller_trouble", { why: trouble }) : "";
    notice.textContent = { live, lost: detail ?? t("lost"), connecting: t("connecting") }[state];
}

function troubleIs(why) {
    trouble = why;
    if (connection === "live") connectionIs("live");
}

function sessionIs(current) {
    const same = session && session.access === current.access && session.login === current.login;
    session = current;
    if (same) return;
    const readOnly = current.access === "read-only" ? el("span", { class: "tag", textContent: t("read_only") }) : null;
    const out = current.login
        ? el("button", { type: "button", class: "quiet", textContent: t("sign_out"), on: { click: signOut } })
        : null;
    corner.replaceChildren(...[readOnly, out].filter(Boolean));
    // Another access has other buttons.
    if (view && list) {
        endList();
        route();
    }
}

function endList() {
    list?.end();
    list = null;
}

function show(next, { focus = true, scroll = 0 } = {}) {
    if (view && view !== list) view.end();
    view = next;
    main.replaceChildren(next.element);
    showTitle();
    scrollTo(0, scroll);
    if (focus) next.heading.focus({ preventScroll: true });
}

function listOnce() {
    list ??= listView({
        canChange: session.access === "full",
        needs: (amount) => {
            needing = amount;
            showTitle();
        },
    });
    return list;
}

/** The account that the address names for a view of this kind. */
function accountName(kind, hash) {
    const match = /^#\/(account|chat)\/([^/]+)$/.exec(hash);
    try {
        return match?.[1] === kind ? decodeURIComponent(match[2]) : null;
    } catch {
        return null;
    }
}

/** Shows what the address says. `first` is the load of the page, which leaves the focus to the browser. */
function route({ first = false } = {}) {
    if (!session) return;
    if (view === list) listScroll = scrollY;
    // It counts those that need a person, for the title of any view.
    listOnce();
    const name = accountName("account", location.hash);
    const chat = accountName("chat", location.hash);
    const canChange = session.access === "full";
    if (name !== null) show(accountView({ name, canChange }), { focus: !first });
    else if (chat !== null) show(chatView({ name: chat, canChange }), { focus: !first });
    else if (location.hash === "#/add" && canChange) show(addView(), { focus: !first });
    else show(list, { focus: !first, scroll: listScroll });
}

function signIn() {
    if (!session && view) return;
    store.unfollow();
    endList();
    session = null;
    needing = 0;
    corner.replaceChildren();
    connectionIs("live");
    show(signInView({ done: begin }));
}

async function signOut() {
    try {
        await api.signOut();
    } catch (problem) {
        if (problem.status === 0) return announce(problem.message);
    }
    session ??= {};
    signIn();
}

/** Begins, or begins anew after a sign-in: tries until the controller answers. */
async function begin() {
    const first = view === null;
    let wait = 200;
    for (;;) {
        try {
            sessionIs(await api.session());
            break;
        } catch (problem) {
            // The sign-in is shown by then.
            if (problem.status === 401) return;
            const refused = problem.status >= 400 && problem.status < 500;
            connectionIs("lost", refused ? problem.message : null);
            await new Promise((resolve) => setTimeout(resolve, wait));
            wait = Math.min(wait * 2, 5000);
        }
    }
    connectionIs("connecting");
    route({ first });
    store.follow({ state: connectionIs, session: sessionIs, controller: troubleIs });
}

api.hooks.tokenNeeded = signIn;
document.getElementById("skip").textContent = t("skip");
document.getElementById("skip").addEventListener("click", (event) => {
    // The address after # says which view is shown.
    event.preventDefault();
    view?.heading.focus();
});
addEventListener("hashchange", () => route());
connectionIs("connecting");
begin();
