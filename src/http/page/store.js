// All accounts as they are known here, kept up to date by the controller's events.

import * as api from "./api.js";
import { eachFrame } from "./dom.js";
import { openStream } from "./stream.js";

/** Use of memory is in no event, so the list is fetched again now and then. That also puts right whatever was missed. */
const REFRESH_EVERY = 30000;

const accounts = new Map();
const listeners = new Set();

/** Names that changed since the last frame. */
let dirty = new Set();
/** Counts events. */
let clock = 0;
/** When an event last told of a name: what was asked for before that is older, and does not count. */
const toldAt = new Map();

let stream = null;
let timer = null;
let loading = null;
let loadAgain = false;
/** Whether the whole list has been here. */
let complete = false;
/** Why no account can be started or stopped, as the controller says; null where all is well. */
let trouble = null;
let onTrouble = () => {};

const tell = eachFrame(() => {
    const names = dirty;
    dirty = new Set();
    for (const listener of listeners) listener(names);
});

function changed(name) {
    dirty.add(name);
    tell();
}

/** Calls `listener` with the set of changed names, at most once a frame. Returns what ends that. */
export function subscribe(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
}

export const get = (name) => accounts.get(name);
export const all = () => accounts;
export const isComplete = () => complete;

/** The moment of a question. Its answer goes to `take` together with it. */
export const moment = () => clock;

/** Takes an account out of an answer, unless an event has told something newer since the question. */
export function take(account, asked) {
    const known = accounts.get(account.name);
    if ((toldAt.get(account.name) ?? 0) > asked) {
        // Events have no use of memory.
        if (known && account.usage) accounts.set(account.name, { ...known, usage: account.usage });
    } else {
        accounts.set(account.name, { ...account, usage: account.usage ?? known?.usage ?? null });
    }
    changed(account.name);
}

/** Takes an account off the list, as an answer says. */
export function drop(name) {
    if (accounts.delete(name)) changed(name);
}

function toldAccount(account) {
    toldAt.set(account.name, ++clock);
    const known = accounts.get(account.name);
    const same = known && known.client.pid === account.client.pid;
    accounts.set(account.name, { ...account, usage: account.usage ?? (same ? known.usage : null) });
    changed(account.name);
}

function toldGone({ name }) {
    toldAt.set(name, ++clock);
    drop(name);
}

function toldController(controller) {
    const told = controller.trouble ?? null;
    if (told === trouble) return;
    trouble = told;
    onTrouble(told);
}

async function loadOnce() {
    const asked = moment();
    const seen = new Set();
    let after = null;
    do {
        const page = await api.page(after);
        for (const account of page.accounts) {
            seen.add(account.name);
            take(account, asked);
        }
        toldController(page);
        after = page.next ?? null;
    } while (after !== null);
    for (const name of [...accounts.keys()]) {
        if (!seen.has(name) && (toldAt.get(name) ?? 0) <= asked) drop(name);
    }
    complete = true;
    tell();
}

/** Fetches the whole list. Asked for meanwhile, it is fetched once more. */
export function load() {
    loadAgain = loading !== null;
    loading ??= (async () => {
        try {
            do {
                loadAgain = false;
                await loadOnce();
            } while (loadAgain);
        } finally {
            loading = null;
        }
    })();
    return loading;
}

function plan() {
    clearTimeout(timer);
    timer = setTimeout(async () => {
        if (!document.hidden) await load().catch(() => {});
        plan();
    }, REFRESH_EVERY);
}

/**
 * Follows the controller until `unfollow`. `state` is called with `live` once the list is here and events come, and with `lost`.
 * `session` is called with what the controller says of this caller after each loss, and `controller` with its trouble.
 */
export function follow({ state, session, controller }) {
    onTrouble = controller;
    let opening = 0;
    const whole = async () => {
        const mine = ++opening;
        try {
            await load();
            if (mine === opening) state("live");
        } catch (problem) {
            // The stream may well be open while the list is refused for a moment.
            if (mine === opening && problem.status !== 401) setTimeout(() => mine === opening && whole(), 1000);
        }
    };
    stream = openStream(api.eventsAddress(), {
        before: async () => session(await api.session()),
        lost: () => {
            opening += 1;
            state("lost");
        },
        // `ready` is the first event of each stream. Events that came in between are missing then.
        // A machine that is away, or back, is a change of all its accounts.
        events: { ready: whole, missed: whole, machine: whole, account: toldAccount, gone: toldGone, controller: toldController },
    });
    plan();
}

export function unfollow() {
    stream?.close();
    stream = null;
    clearTimeout(timer);
    accounts.clear();
    complete = false;
    toldController({});
    tell();
}
