// Elements without markup strings: whatever is not a node becomes text, so nothing that a model or a file says can
// turn into an element.

export const $ = (id) => document.getElementById(id);

// el('a', {href, onclick}, 'text', node): names that begin with `on` are listeners; null, undefined and false are left out.
export function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (value === null || value === undefined || value === false) continue;
        if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
        else if (name === 'value') node.value = value;
        else node.setAttribute(name, value === true ? '' : value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return node;
}

export function icon(name) {
    const space = 'http://www.w3.org/2000/svg';
    const svg = document.createElementNS(space, 'svg');
    svg.setAttribute('aria-hidden', 'true');
    const use = document.createElementNS(space, 'use');
    use.setAttribute('href', `#i-${name}`);
    svg.append(use);
    return svg;
}

export function iconButton(name, label, onclick, extra = {}) {
    const {class: more = '', ...attributes} = extra;
    return el('button', {type: 'button', class: `icon ${more}`.trim(), 'aria-label': label, title: label, onclick, ...attributes},
        icon(name));
}

// A button that copies what `text()` gives and says for a moment that it did.
export function copyButton(label, text) {
    const button = iconButton('copy', label, async () => {
        const done = await copy(text());
        announce(done ? 'Copied' : 'The browser does not allow copying');
        button.replaceChildren(icon(done ? 'check' : 'close'));
        setTimeout(() => button.replaceChildren(icon('copy')), 1500);
    });
    return button;
}

// Pages that do not come from this machine or over TLS have no clipboard interface: the old command still serves them.
async function copy(text) {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        const focused = document.activeElement;
        const area = el('textarea', {class: 'hidden', 'aria-hidden': 'true', value: text});
        (focused?.closest('dialog') ?? document.body).append(area);
        area.select();
        const done = document.execCommand('copy');
        area.remove();
        focused?.focus();
        return done;
    }
}

const keptSentences = 4;

// Says something to those who listen instead of looking.
export function announce(text) {
    const region = $('announcer');
    region.append(el('p', {}, text));
    while (region.childElementCount > keptSentences) region.firstElementChild.remove();
}

// Announces a growing answer sentence by sentence, each once.
export class Speaker {
    #said;

    constructor(text) {
        this.#said = text.length;
    }

    hear(text) {
        const end = /(?<!\b\d{1,3})[.!?…:;]["'”’)\]*_]*\s|[。！？]|\n/g;
        end.lastIndex = this.#said;
        let upTo = this.#said;
        for (let match; (match = end.exec(text)) !== null;) upTo = end.lastIndex;
        this.#say(text, upTo);
    }

    finish(text) {
        this.#say(text, text.length);
    }

    #say(text, upTo) {
        const sentence = text.slice(this.#said, upTo).replace(/[*_`#|]+/g, '').trim();
        this.#said = Math.max(this.#said, upTo);
        if (sentence) announce(sentence);
    }
}

export const count = (number) => Math.round(number).toLocaleString('en-US');
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`;
export const seconds = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(0)) + ' s';

// Asks before something is lost. Resolves to true or false.
export function confirmed(title, text, verb) {
    const dialog = $('confirm');
    $('confirm-title').textContent = title;
    $('confirm-text').textContent = text;
    $('confirm-yes').textContent = verb;
    dialog.returnValue = 'no';
    dialog.showModal();
    return new Promise((resolve) => {
        dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), {once: true});
    });
}

// crypto.randomUUID is missing where the page does not come from this machine or over TLS.
export function newId() {
    return Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36).padStart(2, '0')).join('');
}
