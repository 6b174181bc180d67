// The list of all accounts. A change touches its own row only.

import { now } from "./api.js";
import { addForm } from "./add.js";
import { badge } from "./badge.js";
import { announce, el, setText } from "./dom.js";
import { count, duration, fullTime, size, sorter } from "./formats.js";
import { describe, needsPerson, reason } from "./state.js";
import * as store from "./store.js";
import { t } from "./texts.js";

const FILTERS = {
    all: () => true,
    person: (row) => needsPerson(row.account),
    running: (row) => row.described.kind === "running",
    stopped: (row) => row.described.kind === "stopped",
};

export const accountAddress = (name) => `#/account/${encodeURIComponent(name)}`;

function makeRow(name) {
    const state = badge();
    const row = {
        name,
        state,
        nickname: el("span"),
        uin: el("span"),
        machine: el("span"),
        known: el("span", { class: "muted known" }),
        why: el("span", { class: "why muted" }),
        program: el("td", { class: "wide", role: "cell" }),
        since: el("td", { class: "wide", role: "cell" }),
        memory: el("td", { class: "wide number", role: "cell" }),
        port: el("td", { class: "wider number", role: "cell" }),
    };
    row.known.append(row.nickname, " ", row.uin, " ", row.machine);
    const link = el("a", { href: accountAddress(name), textContent: name });
    row.tr = el(
        "tr",
        { role: "row", on: { click: (event) => openRow(event, link) } },
        el("th", { scope: "row", role: "rowheader" }, el("div", { class: "pair" }, link, row.known)),
        el("td", { role: "cell" }, el("div", { class: "pair" }, state.element, row.why)),
        row.program,
        row.since,
        row.memory,
        row.port,
    );
    return row;
}

/** The whole row is a target for the mouse; the link is what keyboards and screen readers have. */
function openRow(event, link) {
    const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    if (plain && event.target !== link && String(getSelection()) === "") link.click();
}

function fillRow(row, account) {
    row.account = account;
    row.described = describe(account);
    const { login, usage } = account;
    const [nickname, uin] = [login?.nickname ?? "", login?.uin ?? ""];
    row.words = `${row.name} ${account.id} ${nickname} ${uin} ${account.machine ?? ""}`.toLowerCase();
    row.state.show(row.described);
    row.tr.classList.toggle("person", needsPerson(account));
    const why = reason(account, row.described.kind) ?? "";
    setText(row.nickname, nickname);
    setText(row.uin, uin);
    const machine = account.machine ? `@ ${account.machine}` : "";
    setText(row.machine, machine);
    row.known.hidden = nickname === "" && uin === "" && machine === "";
    setText(row.why, why);
    if (row.why.title !== why) row.why.title = why;
    const program = account.implementation?.name ?? account.backend ?? account.parameters?.backend ?? "";
    setText(row.program, program);
    setText(row.memory, usage ? size(usage.memory) : "");
    setText(row.port, account.client.port ? String(account.client.port) : "");
    showSince(row);
}

function showSince(row) {
    const since = row.described.kind === "unreachable" ? row.account.machine_since : row.account.since;
    setText(row.since, since ? duration(now() - since) : "");
    if (since && row.sinceTitle !== since) {
        row.sinceTitle = since;
        row.since.title = fullTime(since);
    }
}

const before = (a, b) => a.described.rank - b.described.rank || sorter.compare(a.name, b.name) || (a.name < b.name ? -1 : 1);

/** Where a row belongs among those that are in order. */
function place(order, row) {
    let [low, high] = [0, order.length];
    while (low < high) {
        const middle = (low + high) >> 1;
        if (before(order[middle], row) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

/** The view. `canChange` says whether the caller may add accounts; `needs` is told how many accounts need a person. */
export function listView({ canChange, needs }) {
    const rows = new Map();
    const order = [];
    let filter = "all";
    let query = "";

    const body = el("tbody", { role: "rowgroup" });
    const search = el("input", {
        type: "search",
        id: "search",
        placeholder: t("search_hint"),
        autocomplete: "off",
        spellcheck: false,
        "aria-label": t("search"),
        on: { input: () => refilter(() => (query = search.value.trim().toLowerCase())) },
    });
    const buttons = Object.keys(FILTERS).map((name) => {
        const amount = el("span", { class: "amount" });
        const button = el("button", {
            type: "button",
            "aria-pressed": String(name === filter),
            on: { click: () => refilter(() => (filter = name)) },
        });
        button.append(t(`filter_${name}`), " ", amount);
        return { name, button, amount };
    });
    const none = el(
        "div",
        { class: "none", hidden: true },
        el("p", { textContent: t("none_match") }),
        el("button", { type: "button", textContent: t("show_all"), on: { click: showAll } }),
    );
    const columns = [
        ["name", ""],
        ["state", ""],
        ["program", "wide"],
        ["since", "wide"],
        ["memory", "wide number"],
        ["port", "wider number"],
    ];
    const head = columns.map(([name, style]) =>
        el("th", { scope: "col", role: "columnheader", class: style, textContent: t(`column_${name}`) }),
    );
    // The roles are those of the elements. Some browsers take them away from a table that style.css lays out in its own way.
    const headRow = el("tr", { role: "row" }, ...head);
    const table = el("table", { role: "table", "aria-labelledby": "heading" }, el("thead", { role: "rowgroup" }, headRow), body);
    const heading = el("h1", { id: "heading", tabIndex: -1, textContent: t("accounts") });
    const add = canChange ? el("a", { class: "button primary", href: "#/add", textContent: t("add_account") }) : null;
    const tools = el(
        "div",
        { class: "tools" },
        search,
        el("div", { class: "filters", role: "group", "aria-label": t("filter") }, ...buttons.map(({ button }) => button)),
    );
    const loading = el("p", { class: "muted", textContent: t("loading_list") });
    const empty = emptyList(canChange);
    const full = el("div", { hidden: true }, tools, table, none);
    const element = el("section", { class: "list" }, el("div", { class: "top" }, heading, add), loading, empty, full);

    function matches(row) {
        return FILTERS[filter](row) && (query === "" || row.words.includes(query));
    }

    function showAll() {
        search.value = "";
        refilter(() => ([filter, query] = ["all", ""]));
        search.focus();
    }

    function refilter(change) {
        change();
        for (const { name, button } of buttons) button.setAttribute("aria-pressed", String(name === filter));
        for (const row of order) row.tr.hidden = !matches(row);
        const shown = counts();
        announce(t("shown_count", { shown: count(shown), total: count(order.length) }));
    }

    /** Shows how many there are of each filter. Returns how many rows are shown. */
    function counts() {
        let shown = 0;
        const found = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, 0]));
        for (const row of order) {
            if (!row.tr.hidden) shown += 1;
            for (const name of Object.keys(FILTERS)) if (FILTERS[name](row)) found[name] += 1;
        }
        for (const { name, button, amount } of buttons) {
            setText(amount, count(found[name]));
            button.classList.toggle("person", name === "person" && found.person > 0);
        }
        none.hidden = shown > 0;
        table.hidden = shown === 0;
        needs(found.person);
        return shown;
    }

    function insert(row) {
        const at = place(order, row);
        const focused = row.tr.contains(document.activeElement) ? document.activeElement : null;
        // The row that has the focus keeps its place in the page and would lose the focus by a move, so it gets it back.
        body.insertBefore(row.tr, order[at]?.tr ?? null);
        order.splice(at, 0, row);
        focused?.focus({ preventScroll: true });
    }

    function update(names) {
        const fresh = [];
        for (const name of names) {
            const account = store.get(name);
            let row = rows.get(name);
            if (!account) {
                if (row) {
                    row.tr.remove();
                    order.splice(order.indexOf(row), 1);
                    rows.delete(name);
                }
                continue;
            }
            if (row) {
                const rank = row.described.rank;
                fillRow(row, account);
                if (rank !== row.described.rank) {
                    order.splice(order.indexOf(row), 1);
                    insert(row);
                }
            } else {
                row = makeRow(name);
                rows.set(name, row);
                fillRow(row, account);
                fresh.push(row);
            }
            row.tr.hidden = !matches(row);
        }
        if (fresh.length > 50) {
            // As a whole: the first list has them all.
            order.push(...fresh);
            order.sort(before);
            body.replaceChildren(...order.map((row) => row.tr));
        } else {
            for (const row of fresh) insert(row);
        }
        const isEmpty = order.length === 0;
        loading.hidden = store.isComplete() || !isEmpty;
        empty.hidden = !store.isComplete() || !isEmpty;
        full.hidden = isEmpty;
        if (add) add.hidden = isEmpty;
        counts();
    }

    update(store.all().keys());
    const unsubscribe = store.subscribe(update);
    const timer = setInterval(() => element.isConnected && order.forEach(showSince), 30000);
    return {
        element,
        heading,
        title: t("accounts"),
        end() {
            unsubscribe();
            clearInterval(timer);
        },
    };
}

/** What there is instead of an empty table. */
function emptyList(canChange) {
    const text = el("p", { textContent: t(canChange ? "empty_next" : "empty_read_only") });
    const title = el("h2", { textContent: t("empty_title") });
    return el("div", { class: "empty card", hidden: true }, title, text, canChange ? addForm() : null);
}
