// Questions and answers on the page.
import {$, copyButton, count, el, icon, iconButton, plural, seconds, Speaker} from './dom.js';
import {boxesAsJson, legend, pictureWithBoxes, readable} from './boxes.js';
import {isBusy, isRemembered, picturesOf} from './conversation.js';
import {render} from './markdown.js';
import {showPicture, showVideo} from './viewer.js';
import {urlOf} from './store.js';

const finishWords = {stop: 'finish reason: stop', length: 'finish reason: length (cut at the longest answer)'};

function statsText({stats, finish, state}) {
    const parts = [];
    if (stats?.tokens) parts.push(plural(stats.tokens, 'token'));
    if (stats?.rate) parts.push(`${stats.rate.toFixed(1)} tokens/s`);
    if (stats?.first) parts.push(`first token after ${seconds(stats.first)}`);
    if (stats?.cached) parts.push(`${count(stats.cached)} of ${count(stats.prompt)} prompt tokens from the cache`);
    if (state === 'done' && finish) parts.push(finishWords[finish] ?? `finish reason: ${finish}`);
    if (state === 'stopped') parts.push('stopped');
    return parts;
}

// One turn. `acts`: {edit, regenerate, proceed, openKey}.
class TurnView {
    #speaker = null;
    #spoken = null;  // the answer that the speaker reads
    #frame = null;

    constructor(turn, index, turns, acts) {
        Object.assign(this, {turn, index, turns, acts});
        this.body = el('div', {class: 'prose'});
        this.status = el('p', {class: 'status', hidden: true});
        this.extra = el('div', {class: 'extra'});
        this.stats = el('span', {class: 'stats'});
        this.tools = el('div', {class: 'answer-tools'});
        this.answer = el('article', {class: 'answer', 'aria-label': `Answer ${index + 1}`}, this.body, this.status, this.extra,
            el('footer', {}, this.tools, this.stats));
        this.node = el('li', {class: 'turn'}, el('h2', {class: 'hidden'}, `Question ${index + 1}`), this.#question(), this.answer);
        if (turn.answer) this.update();
    }

    #question() {
        const {text, media} = this.turn.question;
        const thumbs = media.map((each) => {
            const isVideo = each.kind === 'video';
            const preview = isVideo ? el('video', {muted: true, preload: 'metadata', tabindex: '-1'}) : el('img', {alt: ''});
            urlOf(each.id).then((url) => (url ? (preview.src = url) : preview.replaceWith(el('span', {class: 'lost'}, 'no longer kept'))));
            return el('li', {}, el('button', {type: 'button', class: 'thumb', 'aria-label': `Show ${each.name}`, title: each.name,
                onclick: () => (isVideo ? showVideo(each) : showPicture(each))}, preview));
        });
        return el('article', {class: 'question', 'aria-label': `Question ${this.index + 1}`},
            thumbs.length ? el('ul', {class: 'thumbs'}, thumbs) : null,
            el('div', {class: 'said'},
                text ? el('p', {class: 'bubble'}, text) : null,
                el('div', {class: 'question-tools'},
                    text ? copyButton('Copy the question', () => text) : null,
                    iconButton('edit', 'Edit the question', () => this.acts.edit(this.index), {class: 'edit'}))));
    }

    // Draws the answer at the next frame, however many tokens come before it.
    schedule() {
        this.#frame ??= requestAnimationFrame(() => {
            this.#frame = null;
            this.update();
        });
    }

    update(note = '') {
        const {answer} = this.turn;
        const text = readable(answer.text);
        const busy = isBusy(answer);
        this.answer.setAttribute('aria-busy', String(busy));
        this.answer.dataset.state = answer.state;
        this.answer.dataset.finish = answer.finish ?? '';
        render(this.body, text);
        if (this.#spoken !== answer) {
            this.#spoken = answer;
            this.#speaker = new Speaker(answer.state === 'running' ? '' : text);
        }
        if (answer.state === 'running') this.#speaker.hear(text);
        this.body.classList.toggle('growing', answer.state === 'running');
        this.#drawStatus(answer, note);
        this.stats.replaceChildren(...statsText(answer).map((part) => el('span', {}, part)));
        this.refreshTools();
        this.extra.replaceChildren();
        if (!busy && answer.boxes.length) this.#drawBoxes(answer);
    }

    // The sentences that an answer ended with; not called for answers of earlier visits.
    speakRest() {
        this.#speaker.finish(readable(this.turn.answer.text));
    }

    #drawStatus({state, error}, note) {
        const waiting = state === 'waiting';
        this.status.hidden = !waiting && state !== 'failed';
        this.status.classList.toggle('error', state === 'failed');
        if (state === 'failed') {
            this.status.replaceChildren(el('span', {class: 'message'}, error.message),
                error.requestId ? el('span', {class: 'quiet'}, 'request ', el('code', {class: 'request-id'}, error.requestId)) : '',
                error.status === 401 ? el('button', {type: 'button', class: 'secondary', onclick: () => this.acts.openKey()}, 'Enter the API key') : '');
        } else if (waiting) {
            this.status.replaceChildren(el('span', {class: 'dots', 'aria-hidden': 'true'}, el('i'), el('i'), el('i')), el('span', {class: 'note'}, note || 'Reading'));
        }
    }

    // What can be done with an answer depends on whether it is the last one.
    refreshTools() {
        const {answer} = this.turn;
        if (answer === null || isBusy(answer)) return this.tools.replaceChildren();
        const isLast = this.index === this.turns.length - 1;
        const text = readable(answer.text);
        const lost = answer.state === 'failed' && answer.error.status === 0;  // the connection, not the service, failed
        this.tools.replaceChildren(...[
            text ? copyButton('Copy the answer', () => text) : null,
            isLast ? iconButton('again', answer.text ? 'Regenerate the answer' : 'Ask again', () => this.acts.regenerate(this.index), {class: 'regenerate'}) : null,
            isLast && answer.text && (answer.finish === 'length' || answer.state === 'stopped' || lost)
                ? el('button', {type: 'button', class: 'secondary proceed', onclick: () => this.acts.proceed(this.index)}, icon('more'), 'Continue') : null,
            !isRemembered(this.turn) && !isLast ? el('span', {class: 'quiet'}, 'left out of later questions') : null,
        ].filter(Boolean));
    }

    // Boxes belong to a picture of this question, else of the nearest one before; with several, one may choose.
    #drawBoxes(answer) {
        const own = picturesOf([this.turn]);
        const all = picturesOf(this.turns.slice(0, this.index + 1));
        const nearest = this.turns.slice(0, this.index + 1).reverse().map((turn) => picturesOf([turn])).find((list) => list.length) ?? [];
        const media = all.find(({id}) => id === answer.boxPicture) ?? own[0] ?? nearest[0];
        if (!media) return;
        urlOf(media.id).then((url) => {
            if (url === null) return;
            const picture = pictureWithBoxes(url, `${media.name} with ${plural(answer.boxes.length, 'box').replace('boxs', 'boxes')}`, answer.boxes);
            const choose = all.length > 1 ? el('label', {class: 'which'}, 'on ', el('select', {onchange: (event) => {
                answer.boxPicture = event.target.value;
                this.acts.save();
                this.#drawBoxes(answer);
            }}, all.map(({id, name}, i) => el('option', {value: id, selected: id === media.id}, `${i + 1}: ${name}`)))) : null;
            this.extra.replaceChildren(el('figure', {class: 'grounded'}, picture, el('figcaption', {},
                legend(answer.boxes, media),
                el('div', {class: 'figure-tools'}, choose, el('span', {class: 'grow'}),
                    copyButton('Copy all boxes as JSON', () => boxesAsJson(answer.boxes, media)),
                    iconButton('zoom-in', 'Show the picture large', () => showPicture(media, answer.boxes))))));
        });
    }
}

const nearEnd = 120;  // pixels

export class Transcript {
    #views = [];
    #following = false;  // the end is kept in sight until the reader scrolls away from it
    #scrolled = 0;

    constructor(acts) {
        this.acts = acts;
        const page = document.scrollingElement;
        addEventListener('scroll', () => {
            const up = page.scrollTop < this.#scrolled;
            this.#scrolled = page.scrollTop;
            const atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < nearEnd;
            if (up || atEnd) this.#following = atEnd;
        }, {passive: true});
        const observer = new ResizeObserver(() => {
            const sticks = getComputedStyle($('composer')).position === 'sticky';
            document.documentElement.style.scrollPaddingBottom = sticks ? `${$('composer').offsetHeight + 8}px` : '';
            if (this.#following) this.toEnd();
        });
        for (const each of [$('transcript'), $('composer')]) observer.observe(each);
    }

    show(turns) {
        const old = this.#views;
        const kept = (index) => old[index]?.turn === turns[index] && old[index].turns === turns;
        this.#views = turns.map((turn, index) => (kept(index) ? old[index] : new TurnView(turn, index, turns, this.acts)));
        old.forEach((view, index) => this.#views[index] !== view && view.node.remove());
        for (const view of this.#views) {
            if (!view.node.isConnected) $('transcript').append(view.node);
            view.refreshTools();
        }
    }

    view(index) {
        return this.#views[index];
    }

    // Goes to the end, and stays there while the conversation grows.
    toEnd() {
        this.#following = true;
        document.scrollingElement.scrollTop = document.scrollingElement.scrollHeight;
    }
}
