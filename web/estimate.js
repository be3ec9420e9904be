// What a question would cost, told by the service before anything is sent. Sizes are enough for pictures: no pixel
// leaves the page for an estimate.
import {defaultFrames, isRemembered, mediaOf, messagesOf, newTurn} from './conversation.js';

const frameTokens = 256, wrapTokens = 2;

// A GIF of one pixel, in one tile: it stands where a picture stands, so that the marks around it are counted.
const onePixel = 'data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7';

// The text of a message with stand-ins for its media. The frames of a video are written out.
async function standIn(media) {
    if (media.kind === 'picture') return {type: 'image_url', image_url: {url: onePixel, max_dynamic_patch: 1}};
    const names = Array.from({length: media.frames ?? defaultFrames}, (_, i) => `Frame${i + 1}: \n`);
    return {type: 'text', text: names.join('')};
}

const keptAnswers = 500;

export class Estimator {
    #server;
    #kept = new Map();  // request -> promise of its reply

    constructor(server) {
        this.#server = server;
    }

    forget() {
        this.#kept.clear();
    }

    #remembered(name, ask) {
        if (!this.#kept.has(name)) {
            if (this.#kept.size >= keptAnswers) this.#kept.delete(this.#kept.keys().next().value);
            const reply = ask();
            this.#kept.set(name, reply);
            reply.catch(() => this.#kept.delete(name));
        }
        return this.#kept.get(name);
    }

    // {grid, thumbnail, tiles, tokens, seconds} of a picture.
    async picture({width, height, limit, detail}) {
        const query = new URLSearchParams({width, height});
        if (limit) query.set('max_num', limit);
        if (detail) query.set('detail', detail);
        const reply = await this.#remembered(`?${query}`, () => this.#server.get(`v1/estimate?${query}`));
        const image = reply.images?.[0];
        if (!image) throw new Error('the estimate names no picture');
        return {...image, seconds: reply.seconds, context: reply.max_model_len};
    }

    async #text(turns, model, {system, placement}) {
        const body = {model, messages: await messagesOf(turns, system, standIn)};
        if (placement) body.image_placement = placement;
        return this.#remembered(JSON.stringify(body), () => this.#server.post('v1/estimate', body));
    }

    // The whole prompt of `turns` with `draft` ({text, media}) as the last question:
    // {pictures: Map of id -> estimate, text, image, total, context, reserve, fits, exact, seconds}.
    async budget(turns, draft, model, settings) {
        const reserve = settings.max_tokens ?? 1;
        const asked = [...turns.filter(isRemembered), newTurn(draft.text, draft.media)];
        const media = mediaOf(asked);
        const pictures = media.filter(({kind}) => kind === 'picture');
        const [text, ...estimates] = await Promise.all([this.#text(asked, model, settings), ...pictures.map((each) => this.picture(each))]);
        const frames = media.filter(({kind}) => kind === 'video').reduce((sum, {frames: n}) => sum + (n ?? defaultFrames), 0);
        const image = estimates.reduce((sum, {tokens}) => sum + tokens, 0) + frames * frameTokens;
        const words = text.text_tokens + frames * wrapTokens;
        const total = words + image, context = text.max_model_len;
        const known = new Map(pictures.map(({id}, i) => [id, estimates[i]]));
        // What earlier questions showed is likely to be in the service's caches; only new pictures take their time.
        const fresh = draft.media.filter(({kind}) => kind === 'picture').map(({id}) => known.get(id).seconds);
        return {
            pictures: known, text: words, image, total, context, reserve, exact: frames === 0,
            fits: total + reserve <= context,
            seconds: fresh.length && fresh.every(Boolean) ? fresh.reduce((sum, {vision, prefill}) => sum + vision + prefill, 0) : null,
        };
    }

    // The largest tile limit for all pictures of `media` with which they take at most `room` tokens, or null.
    async limitFor(media, room) {
        const pictures = media.filter(({kind}) => kind === 'picture');
        const frames = media.filter(({kind}) => kind === 'video').reduce((sum, {frames: n}) => sum + (n ?? defaultFrames), 0);
        const left = Math.floor(room / frameTokens) - frames;
        if (!pictures.length || left < pictures.length) return null;
        for (let limit = Math.min(40, left); limit >= 1; --limit) {
            const estimates = await Promise.all(pictures.map((each) => this.picture({...each, limit: lowered(each, limit)})));
            if (estimates.reduce((sum, {tiles}) => sum + tiles, 0) <= left) return limit;
        }
        return null;
    }
}

// The tile limit of a picture when none may exceed `limit`.
export const lowered = (media, limit) => Math.min(media.limit ?? limit, limit);
