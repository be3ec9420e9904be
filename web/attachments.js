// Pictures and a video of the question that is being written: taking files in, cards, order.
import {$, announce, count, el, iconButton, newId, plural} from './dom.js';
import {sizeOf} from './picture_size.js';
import {holdBlob, urlOf} from './store.js';
import {defaultFrames} from './conversation.js';

const headerBytes = 1 << 18;
const videoName = /\.(mp4|m4v|mov|webm|mkv|avi)$/i;
const cardType = 'application/x-internvl-card';

// A file as media, or null when it is neither a picture nor a video that the service reads.
async function mediaFrom(file) {
    const size = sizeOf(await file.slice(0, headerBytes).arrayBuffer()) ?? (file.type.startsWith('image/') ? sizeOf(await file.arrayBuffer()) : null);
    const isVideo = size === null && (file.type.startsWith('video/') || videoName.test(file.name));
    if (size === null && !isVideo) return null;
    const media = {id: newId(), kind: isVideo ? 'video' : 'picture', name: file.name || 'picture', bytes: file.size, ...(size ?? {width: 0, height: 0})};
    holdBlob(media.id, file);
    return media;
}

export class Attachments extends EventTarget {
    media = [];
    #facts = new Map();  // id -> element with what it costs
    #known = new Map();  // id -> the latest estimate of a picture
    #dragged = null;

    constructor(tilesOf) {
        super();
        this.tilesOf = tilesOf;
        $('attachments').addEventListener('dragover', (event) => this.#dragOver(event));
        $('attachments').addEventListener('drop', (event) => {
            if (event.dataTransfer.types.includes(cardType)) event.preventDefault();
        });
    }

    // Takes files in. Returns complaints, one a file that was not taken.
    async add(files, videoElsewhere = false) {
        const complaints = [];
        for (const file of files) {
            const media = await mediaFrom(file);
            if (media === null) complaints.push(`“${file.name}” is neither a picture (JPEG, PNG, WebP, GIF, BMP) nor a video.`);
            else if (media.kind === 'video' && (videoElsewhere || this.media.some(({kind}) => kind === 'video')))
                complaints.push(`“${file.name}”: a conversation holds one video.`);
            else this.media.push(media);
        }
        announce(plural(this.media.length, 'attachment'));
        this.#changed();
        return complaints;
    }

    set(media) {
        this.media = media;
        this.#changed();
    }

    // Writes on the cards what each costs. `pictures`: Map of id -> estimate, of some or all.
    showFacts(pictures) {
        for (const [id, known] of pictures) this.#known.set(id, known);
        for (const media of this.media) this.#facts.get(media.id)?.replaceChildren(...this.#factsOf(media));
    }

    #factsOf(media) {
        if (media.kind === 'video') {
            const frames = media.frames ?? defaultFrames;
            return [el('span', {}, el('b', {}, plural(frames, 'frame')), `, ${count(256 * frames)} tokens`)];
        }
        const known = this.#known.get(media.id);
        if (!known) return [`${count(media.width)} × ${count(media.height)} px`];
        const [columns, rows] = known.grid;
        return [
            el('span', {}, el('b', {'data-fact': 'grid'}, `${columns} × ${rows}`), known.thumbnail ? ' + thumbnail' : ''),
            el('span', {}, el('b', {'data-fact': 'tiles'}, count(known.tiles)), known.tiles === 1 ? ' tile, ' : ' tiles, ',
                el('b', {'data-fact': 'tokens'}, count(known.tokens)), ' tokens'),
        ];
    }

    #changed() {
        this.#draw();
        this.dispatchEvent(new Event('change'));
    }

    #draw() {
        const list = $('attachments');
        list.hidden = this.media.length === 0;
        this.#facts.clear();
        if (this.media.length === 0) this.#known.clear();
        list.replaceChildren(...this.media.map((media, index) => this.#card(media, index)));
    }

    #card(media, index) {
        const isVideo = media.kind === 'video';
        const preview = isVideo ? el('video', {muted: true, preload: 'metadata', 'aria-label': media.name}) : el('img', {alt: media.name, draggable: 'false'});
        urlOf(media.id).then((url) => url && (preview.src = url));
        const facts = el('p', {class: 'facts'}, this.#factsOf(media));
        this.#facts.set(media.id, facts);
        const last = this.media.length - 1;
        const card = el('li', {class: 'attachment', draggable: this.media.length > 1 ? 'true' : null, 'data-id': media.id},
            el('div', {class: 'preview'}, preview, el('span', {class: 'number', 'aria-hidden': 'true'}, `${index + 1}`),
                iconButton('close', `Remove ${media.name}`, () => this.#remove(index), {class: 'remove'})),
            el('p', {class: 'name', title: media.name}, media.name), facts,
            el('div', {class: 'card-tools'},
                !isVideo && iconButton('tiles', `Tiles of ${media.name}`, () => this.tilesOf(media), {class: 'small show-tiles'}),
                el('span', {class: 'grow'}),
                last > 0 && iconButton('left', `Move ${media.name} to the left`, () => this.#move(index, index - 1, 'left'), {class: 'small', disabled: index === 0}),
                last > 0 && iconButton('right', `Move ${media.name} to the right`, () => this.#move(index, index + 1, 'right'), {class: 'small', disabled: index === last})));
        card.addEventListener('dragstart', (event) => {
            this.#dragged = media.id;
            event.dataTransfer.setData(cardType, media.id);
            event.dataTransfer.effectAllowed = 'move';
            card.classList.add('dragged');
        });
        card.addEventListener('dragend', () => {
            this.#dragged = null;
            this.#changed();
        });
        return card;
    }

    // The dragged card takes the place of the one that it is over; the list itself is put in order at once.
    #dragOver(event) {
        const over = event.target.closest('.attachment');
        if (!this.#dragged || !event.dataTransfer.types.includes(cardType)) return;
        event.preventDefault();
        if (!over || over.dataset.id === this.#dragged) return;
        const from = this.media.findIndex(({id}) => id === this.#dragged);
        const to = this.media.findIndex(({id}) => id === over.dataset.id);
        this.media.splice(to, 0, ...this.media.splice(from, 1));
        const card = $('attachments').querySelector(`[data-id="${this.#dragged}"]`);
        if (from < to) over.after(card);
        else over.before(card);
    }

    #move(from, to, side) {
        this.media.splice(to, 0, ...this.media.splice(from, 1));
        this.#changed();
        announce(`${this.media[to].name} is now number ${to + 1}`);
        const buttons = $('attachments').children[to].querySelectorAll('.card-tools button:not(.show-tiles)');
        const wanted = buttons[side === 'left' ? 0 : 1];
        (wanted.disabled ? buttons[side === 'left' ? 1 : 0] : wanted).focus();
    }

    #remove(index) {
        const [gone] = this.media.splice(index, 1);
        this.#changed();
        announce(`${gone.name} removed`);
        const next = $('attachments').children[Math.min(index, this.media.length - 1)];
        (next?.querySelector('.remove') ?? $('question')).focus();
    }
}

// Calls `take` with files that are dropped anywhere on the page or pasted into it.
export function watchForFiles(take) {
    let depth = 0;
    const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
    const veil = (on) => ($('drop').hidden = !on);
    addEventListener('dragenter', (event) => {
        if (hasFiles(event) && ++depth > 0) veil(true);
    });
    addEventListener('dragleave', (event) => {
        if (hasFiles(event) && --depth <= 0) veil(false);
    });
    addEventListener('dragover', (event) => {
        if (hasFiles(event)) event.preventDefault();
    });
    addEventListener('drop', (event) => {
        depth = 0;
        veil(false);
        if (!hasFiles(event)) return;
        event.preventDefault();
        take([...event.dataTransfer.files]);
    });
    addEventListener('paste', (event) => {
        const files = [...(event.clipboardData?.files ?? [])];
        if (!files.length || document.querySelector('dialog[open]')) return;
        event.preventDefault();
        take(files);
    });
}
