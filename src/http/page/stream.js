// An event stream that comes back by itself.

/** Waiting times before attempts, in milliseconds; the last one is for all further attempts. */
const WAITS = [200, 500, 1000, 2000, 5000];

/** How long a stream may take to open before the next attempt. */
const OPENS_WITHIN = 10000;

/**
 * Keeps a stream open until `close` is called. EventSource gives up for good on an answer such as 502, and waits as long as it likes
 * after a lost connection; so each EventSource is used once, and the attempts are made here.
 *
 * `before` is awaited before each attempt but the first; if it throws, that attempt has failed. `opened` and `lost` are called when
 * the stream opens and each time it is lost. Listeners of `events` get the data, and the event that it came in.
 */
export function openStream(url, { events, before = async () => {}, opened = () => {}, lost = () => {} }) {
    let source = null;
    let timer = null;
    let attempt = 0;
    let closed = false;

    function connect() {
        if (closed) return;
        const current = new EventSource(url);
        source = current;
        const failed = () => {
            if (source !== current) return;
            current.close();
            source = null;
            retry();
        };
        timer = setTimeout(failed, OPENS_WITHIN);
        current.addEventListener("open", () => {
            clearTimeout(timer);
            attempt = 0;
            opened();
        });
        current.addEventListener("error", failed);
        for (const [name, listener] of Object.entries(events)) {
            current.addEventListener(name, (event) => {
                if (source === current) listener(JSON.parse(event.data || "{}"), event);
            });
        }
    }

    function retry() {
        if (closed) return;
        clearTimeout(timer);
        lost();
        const wait = WAITS[Math.min(attempt, WAITS.length - 1)];
        attempt += 1;
        // Not all pages at the same moment.
        timer = setTimeout(again, wait * (0.8 + 0.2 * Math.random()));
    }

    async function again() {
        clearTimeout(timer);
        timer = null;
        try {
            await before();
        } catch {
            return retry();
        }
        if (source === null) connect();
    }

    /** A network that is back, or a page that is looked at again, need not wait for the timer. */
    function hurry() {
        if (!document.hidden && source === null && timer !== null) again();
    }

    addEventListener("online", hurry);
    document.addEventListener("visibilitychange", hurry);
    connect();
    return {
        close() {
            closed = true;
            clearTimeout(timer);
            source?.close();
            source = null;
            removeEventListener("online", hurry);
            document.removeEventListener("visibilitychange", hurry);
        },
    };
}
