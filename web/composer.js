// The question that is being written: text, media, what it costs, and the limit that makes it cheaper.
import {$, announce, count, el, seconds} from './dom.js';
import {Attachments, watchForFiles} from './attachments.js';
import {lowered} from './estimate.js';

const pauseBeforeEstimate = 350;  // milliseconds after the last key
const roomForAnswer = 256;        // tokens that lowering the limit leaves when no other number is wanted

export class Composer extends EventTarget {
    #limit = null;     // of this question's pictures; null: as the settings say
    #limitMax = 12;
    #asked = 0;        // number of the latest estimate
    #timer = null;
    #refused = [];     // complaints about files, said until the question changes
    #editing = null;   // index of the turn that is being edited
    #history = () => [];

    // history(): the turns before this question. tilesOf(media): shows tiles.
    constructor({settings, estimator, history, model, tilesOf, videoBefore}) {
        super();
        Object.assign(this, {settings, estimator, model, videoBefore});
        this.#history = history;
        this.attachments = new Attachments(tilesOf);
        this.attachments.addEventListener('change', () => this.refresh());
        settings.addEventListener('change', () => this.refresh());
        this.#listen();
        this.#grow();
    }

    get text() {
        return $('question').value;
    }

    set text(text) {
        $('question').value = text;
        this.#grow();
    }

    get editing() {
        return this.#editing;
    }

    get isEmpty() {
        return this.text.trim() === '' && this.attachments.media.length === 0;
    }

    // The limit that a picture has when nobody chooses one.
    set standardLimit(limit) {
        this.#limitMax = limit;
    }

    // Not where a keyboard would slide over the page.
    focus() {
        if (matchMedia('(hover: hover)').matches) $('question').focus();
    }

    // Puts an earlier question here to be asked anew.
    edit(index, question) {
        this.#editing = index;
        this.#limit = question.media.find(({limit}) => limit)?.limit ?? null;
        this.text = question.text;
        this.attachments.set(question.media.map((media) => ({...media})));
        this.focus();
        this.#drawEditing();
        announce(`Editing question ${index + 1}`);
    }

    clear() {
        this.#editing = null;
        this.#limit = null;
        this.#refused = [];
        this.text = '';
        this.attachments.set([]);
        this.#drawEditing();
    }

    async take(files) {
        this.#refused = await this.attachments.add(files, this.videoBefore());
        this.#complain([]);
        this.focus();
    }

    // While an answer runs, Stop stands where Send was.
    set busy(busy) {
        const focused = document.activeElement === $('send') || document.activeElement === $('stop');
        $('send').hidden = busy;
        $('stop').hidden = !busy;
        if (focused) this.focus();
    }

    // Asks for the cost anew, a little later.
    refresh() {
        for (const media of this.attachments.media) {
            media.limit = this.#limit ?? this.settings.values.tile_limit ?? null;
            media.detail = this.settings.values.detail ?? null;
            if (media.kind === 'video') media.frames = this.settings.values.frames ?? null;
        }
        this.attachments.showFacts(new Map());
        $('send').setAttribute('aria-disabled', String(this.isEmpty));
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#estimate(), pauseBeforeEstimate);
    }

    #listen() {
        const question = $('question');
        question.addEventListener('input', () => {
            this.#grow();
            this.#refused = [];
            this.refresh();
        });
        question.addEventListener('keydown', (event) => {
            if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            this.#send();
        });
        $('composer').addEventListener('submit', (event) => {
            event.preventDefault();
            this.#send();
        });
        $('attach').addEventListener('click', () => $('files').click());
        $('files').addEventListener('change', () => {
            this.take([...$('files').files]);
            $('files').value = '';
        });
        watchForFiles((files) => this.take(files));
    }

    #send() {
        if (!this.isEmpty && !$('send').hidden) this.dispatchEvent(new Event('send'));
    }

    #grow() {
        const question = $('question');
        question.style.height = 'auto';
        question.style.height = `${Math.min(question.scrollHeight, innerHeight * 0.35)}px`;
    }

    #drawEditing() {
        $('composer').querySelector('.editing')?.remove();
        if (this.#editing === null) return;
        const cancel = el('button', {type: 'button', class: 'text', onclick: () => this.dispatchEvent(new Event('cancel'))}, 'Cancel');
        $('composer').querySelector('.card').prepend(el('p', {class: 'editing'},
            `Editing question ${this.#editing + 1}. What comes after it will be replaced.`, cancel));
    }

    #complain(complaints, ...controls) {
        const all = [...this.#refused, ...complaints];
        $('warning').hidden = all.length === 0;
        $('warning').replaceChildren(...all.map((each) => el('p', {}, each)), ...controls);
    }

    // --- cost ---

    async #estimate() {
        const number = ++this.#asked;
        const draft = {text: this.text, media: this.attachments.media};
        const history = this.#history();
        if (!this.model()) return;  // the page refreshes this when it knows the model
        if (this.isEmpty && history.length === 0) {
            $('budget').replaceChildren();
            this.#complain([]);
            return;
        }
        for (const media of draft.media.filter(({kind}) => kind === 'picture'))
            this.estimator.picture(media).then((known) => number === this.#asked && this.attachments.showFacts(new Map([[media.id, known]])), () => null);
        try {
            const budget = await this.estimator.budget(history, draft, this.model(), this.settings.values);
            if (number !== this.#asked) return;
            this.attachments.showFacts(budget.pictures);
            this.#drawBudget(budget, draft);
            this.#drawWarning(budget);
        } catch (error) {
            if (number !== this.#asked) return;
            const told = error.status >= 400 && error.status < 500 && ![401, 404, 429].includes(error.status);
            $('budget').replaceChildren(el('span', {class: 'quiet', title: error.message}, 'cost unknown'));
            if (told) this.#complain([error.message]);
        }
    }

    #drawBudget({total, context, exact, fits, seconds: time}, {media}) {
        const share = Math.min(1, total / context);
        const bar = el('span', {class: `bar-fill${fits ? '' : ' over'}`});
        bar.style.width = `${100 * share}%`;
        const about = exact ? '' : '≈ ';
        const parts = [
            el('span', {class: 'bar-track', 'aria-hidden': 'true'}, bar),
            el('span', {id: 'total', 'data-total': total, 'data-context': context}, `${about}${count(total)} of ${count(context)} tokens`),
            time !== null && time >= 1 ? el('span', {class: 'quiet time', title: 'until the first word, on an idle server'}, `about ${seconds(time).replace(/\..* /, ' ')}`) : null,
            media.some(({kind}) => kind === 'picture') ? this.#limitChoice() : null,
        ];
        const focused = document.activeElement?.id === 'limit';
        $('budget').replaceChildren(...parts.filter(Boolean));
        if (focused) $('limit')?.focus();
    }

    #limitChoice() {
        const standard = this.settings.values.tile_limit ?? this.#limitMax;
        const value = this.#limit ?? standard;
        const most = Math.max(standard, value);
        const options = Array.from({length: most}, (_, i) => el('option', {value: i + 1, selected: i + 1 === value}, `${i + 1}`));
        const select = el('select', {id: 'limit', title: 'Tiles a picture, at most (the thumbnail not counted)'}, options);
        select.addEventListener('change', () => {
            this.#limit = Number(select.value);
            this.refresh();
        });
        return el('label', {class: 'limit'}, el('span', {}, 'tiles ≤'), select);
    }

    #drawWarning({fits, total, context, image, reserve}) {
        if (fits) return this.#complain([]);
        const forAnswer = reserve > 1 ? `, and the answer may take ${count(reserve)}` : '';
        const mend = image > 0 ? [el('button', {type: 'button', class: 'secondary', id: 'fit', onclick: () => this.#fit(total - image, context, reserve)},
            'Lower the tile limit until it fits')] : [];
        this.#complain([`This does not fit: the question takes ${count(total)} tokens${forAnswer}; the model holds ${count(context)}.`], ...mend);
    }

    async #fit(words, context, reserve) {
        const earlier = this.#history().flatMap((turn) => turn.question.media);
        const room = context - words - (reserve > 1 ? reserve : roomForAnswer);
        const limit = await this.estimator.limitFor([...earlier, ...this.attachments.media], room).catch(() => null);
        if (limit === null) {
            this.#complain(['Even one tile a picture does not fit. Remove pictures, or start a new conversation.']);
            return;
        }
        for (const media of earlier) if (media.kind === 'picture') media.limit = lowered(media, limit);
        this.#limit = Math.min(limit, this.#limit ?? this.settings.values.tile_limit ?? limit);
        announce(`At most ${limit} tiles a picture`);
        this.refresh();
        this.focus();
    }
}
