// Runs one answer: sends the request, waits when told to, takes the stream apart, keeps the time.
import {announce} from './dom.js';
import {boxesOfAnswer} from './boxes.js';
import {messagesOf, partOf} from './conversation.js';
import {pause, ServerError} from './server.js';

const mostAttempts = 20;

// Counts tokens and time of one stream.
class Watch {
    #start = performance.now();
    #first = null;
    #last = null;
    #pieces = 0;

    piece() {
        this.#last = performance.now();
        this.#first ??= this.#last;
        ++this.#pieces;
    }

    stats(usage) {
        if (this.#first === null && !usage) return null;
        const tokens = usage?.completion_tokens ?? this.#pieces;
        const time = ((this.#last ?? 0) - (this.#first ?? 0)) / 1000;
        return {
            tokens,
            rate: tokens > 1 && time > 0 ? (tokens - 1) / time : null,
            first: this.#first === null ? null : (this.#first - this.#start) / 1000,
            prompt: usage?.prompt_tokens ?? null,
            cached: usage?.prompt_tokens_details?.cached_tokens ?? 0,
        };
    }
}

// Fills `turns.at(-1).answer`. changed(note) is called whenever there is something new to draw; `note` is for the
// time before the first token. Never throws: how it ended stands in answer.state.
export async function runAnswer({turns, server, model, settings, signal, changed}) {
    const {answer} = turns.at(-1);
    const began = performance.now();
    const timer = setInterval(() => {
        const waited = Math.floor((performance.now() - began) / 1000);
        if (answer.state === 'waiting' && !held && waited >= 2) changed(`Reading · ${waited} s`);
    }, 1000);
    let held = false;  // by a 429 or 503
    try {
        const messages = await messagesOf(turns, settings.values.system, partOf);
        const body = {
            model, messages, stream: true, stream_options: {include_usage: true}, return_info: true,
            skip_special_tokens: false, ...settings.requestFields,
        };
        for (let attempt = 1;; ++attempt) {
            try {
                await readStream(server.chat(body, signal), answer, changed);
                return;
            } catch (error) {
                if (!(error instanceof ServerError) || error.retryAfter === null || attempt === mostAttempts) throw error;
                held = true;
                const why = error.status === 429 ? 'The server is busy' : 'The server is not ready';
                announce(`${why}. Trying again in ${error.retryAfter} seconds.`);
                await pause(error.retryAfter, signal, (left) => changed(`${why}. Trying again in ${left} s.`));
                held = false;
            }
        }
    } catch (error) {
        if (signal.aborted) {  // however the stream then breaks off
            answer.state = 'stopped';
        } else {
            answer.state = 'failed';
            answer.error = {message: error.message, status: error.status ?? 0, code: error.code ?? null, requestId: error.requestId ?? null};
        }
    } finally {
        clearInterval(timer);
        answer.boxes = boxesOfAnswer(answer.text, answer.told);
        delete answer.told;
        changed();
    }
}

async function readStream(chunks, answer, changed) {
    const watch = new Watch();
    let usage = null;
    try {
        for await (const chunk of chunks) {
            const choice = chunk.choices?.[0];
            if (choice?.delta?.content) {
                watch.piece();
                answer.text += choice.delta.content;
                answer.state = 'running';
                answer.stats = watch.stats(null);
            }
            if (choice?.finish_reason) answer.finish = choice.finish_reason;
            if (chunk.internvl?.boxes) answer.told = chunk.internvl.boxes;
            if (chunk.usage) usage = chunk.usage;
            changed();
        }
        answer.state = 'done';
    } finally {
        answer.stats = watch.stats(usage) ?? answer.stats;
    }
}
