// The service as the page sees it: JSON calls, event streams, errors in the service's own words.

export class ServerError extends Error {
    // status 0: no answer at all.
    constructor(message, {status = 0, code = null, requestId = null, retryAfter = null} = {}) {
        super(message);
        Object.assign(this, {status, code, requestId, retryAfter});
    }
}

async function errorOf(response) {
    let error = {};
    try {
        error = (await response.json()).error ?? {};
    } catch {
        // A proxy's page instead of our JSON: the status must do.
    }
    const after = Number(response.headers.get('retry-after'));
    const useless = response.headers.get('x-should-retry') === 'false';
    const said = typeof error.message === 'string' && error.message !== '';
    return new ServerError(said ? error.message : `The server answered with status ${response.status}.`, {
        status: response.status,
        code: error.code ?? null,
        requestId: response.headers.get('x-request-id'),
        retryAfter: [429, 503].includes(response.status) && after > 0 && !useless ? after : null,
    });
}

// The data of each event of a stream of server-sent events; comments are skipped.
async function* eventData(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = '';
    try {
        for (;;) {
            const {value, done} = await reader.read();
            if (done) return;
            waiting += value;
            const events = waiting.split(/\r?\n\r?\n/);
            waiting = events.pop();
            for (const event of events) {
                const data = event.split(/\r?\n/).filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart());
                if (data.length) yield data.join('\n');
            }
        }
    } finally {
        reader.cancel().catch(() => null);
    }
}

export class Server {
    #key;

    constructor(key) {
        this.#key = key;
    }

    async #fetch(path, {body, signal} = {}) {
        const headers = {};
        const key = this.#key();
        if (key) headers.Authorization = `Bearer ${key}`;
        if (body !== undefined) headers['Content-Type'] = 'application/json';
        let response;
        try {
            response = await fetch(path, {
                method: body === undefined ? 'GET' : 'POST', headers, signal, cache: 'no-store', credentials: 'omit',
                referrerPolicy: 'no-referrer', body: body === undefined ? undefined : JSON.stringify(body),
            });
        } catch (error) {
            if (error.name === 'AbortError') throw error;
            throw new ServerError('The server cannot be reached.');
        }
        if (!response.ok) throw await errorOf(response);
        return response;
    }

    async get(path, signal) {
        return (await this.#fetch(path, {signal})).json();
    }

    async post(path, body, signal) {
        return (await this.#fetch(path, {body, signal})).json();
    }

    // Chunks of a streamed answer. Ends only after the service has said that it is complete.
    async* chat(body, signal) {
        const response = await this.#fetch('v1/chat/completions', {body, signal});
        const requestId = response.headers.get('x-request-id');
        let complete = false;
        try {
            for await (const data of eventData(response.body)) {
                if (data === '[DONE]') complete = true;  // read on to the end, so that the connection can serve again
                if (complete) continue;
                const chunk = JSON.parse(data);
                if (chunk.error) throw new ServerError(chunk.error.message ?? 'The answer failed.', {status: 200, code: chunk.error.code ?? null, requestId});
                yield chunk;
            }
        } catch (error) {
            if (complete) return;
            if (error instanceof ServerError || error.name === 'AbortError') throw error;
            if (error instanceof SyntaxError) throw new ServerError('The server sent something that is not an answer.', {requestId});
            throw new ServerError('The connection was lost before the answer was complete.', {requestId});
        }
        if (!complete) throw new ServerError('The connection ended before the answer was complete.', {requestId});
    }
}

// A pause that ends early, with an AbortError, when `signal` says so. `tick` hears the seconds that are left.
export async function pause(secondsToWait, signal, tick = () => {}) {
    const end = performance.now() + 1000 * secondsToWait;
    for (;;) {
        signal?.throwIfAborted();
        const left = (end - performance.now()) / 1000;
        if (left <= 0) return;
        tick(Math.ceil(left));
        await new Promise((resolve) => setTimeout(resolve, Math.min(250, 1000 * left)));
    }
}
