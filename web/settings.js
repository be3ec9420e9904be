// Settings: what they are, the sheet in which they are changed, and what of them goes into a request.
import {$, el} from './dom.js';
import {readKey, readSettings, writeKey, writeSettings, writeTheme} from './store.js';

// An empty field leaves the choice to the server; `standard` names the server's choice where it tells it.
const numbers = [
    {name: 'temperature', label: 'Temperature', min: 0, max: 2, step: 0.05, hint: '0 always takes the likeliest word', standard: 'temperature'},
    {name: 'top_p', label: 'Top p', min: 0.01, max: 1, step: 0.01, hint: 'keeps the likeliest words up to this share', standard: 'top_p'},
    {name: 'top_k', label: 'Top k', min: -1, max: 100000, step: 1, hint: 'keeps this many words; 0 keeps all', standard: 'top_k'},
    {name: 'max_tokens', label: 'Longest answer', min: 1, max: 1000000, step: 1, hint: 'in tokens', standard: 'max_tokens'},
    {name: 'seed', label: 'Seed', min: -Number.MAX_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER, step: 1, hint: 'the same seed, the same answer'},
];
const pictureNumbers = [
    {name: 'tile_limit', label: 'Tiles a picture, at most', min: 1, max: 40, step: 1, hint: 'fewer tiles: faster, less detail'},
    {name: 'frames', label: 'Frames of a video', min: 1, max: 128, step: 1, hint: 'spread evenly over the clip', standard: 'frames'},
];
const choices = [
    {name: 'detail', label: 'Detail', hint: 'a tile limit by name; the number above goes first', options: [['', 'as the model'], ['low', 'low'], ['medium', 'medium'], ['high', 'high'], ['original', 'original']]},
    {name: 'placement', label: 'Place of pictures', hint: 'where pictures stand in the prompt', options: [['', 'automatic'], ['parts', 'numbered, in place'], ['markers', 'at <image> in the text'], ['inline', 'plain, in place'], ['combined', 'all as one']]},
];
const themes = [['', 'as the system'], ['light', 'light'], ['dark', 'dark']];

function validNumber({min, max, step}, value) {
    return typeof value === 'number' && value >= min && value <= max && (step !== 1 || Number.isInteger(value));
}

export class Settings extends EventTarget {
    values = {};
    #key = readKey();

    constructor() {
        super();
        const kept = readSettings() ?? {};
        for (const field of [...numbers, ...pictureNumbers])
            if (validNumber(field, kept[field.name])) this.values[field.name] = kept[field.name];
        for (const {name, options} of choices)
            if (options.some(([value]) => value && value === kept[name])) this.values[name] = kept[name];
        if (typeof kept.system === 'string') this.values.system = kept.system;
    }

    get key() {
        return this.#key;
    }

    set key(key) {
        this.#key = key;
        writeKey(key);
        this.dispatchEvent(new Event('key'));
    }

    set(name, value) {
        if (value === null || value === '') delete this.values[name];
        else this.values[name] = value;
        writeSettings(this.values);
        this.dispatchEvent(new Event('change'));
    }

    reset() {
        this.values = {};
        writeSettings(this.values);
        this.dispatchEvent(new Event('change'));
    }

    // The fields of a request that do not depend on its pictures.
    get requestFields() {
        const fields = {};
        for (const {name} of numbers) if (name in this.values) fields[name] = this.values[name];
        if (this.values.placement) fields.image_placement = this.values.placement;
        return fields;
    }
}

// --- theme ---

const systemIsDark = () => matchMedia('(prefers-color-scheme: dark)').matches;

export const theme = () => document.documentElement.dataset.theme ?? '';
export const isDark = () => (theme() || (systemIsDark() ? 'dark' : 'light')) === 'dark';

export function setTheme(wanted) {
    if (wanted) document.documentElement.dataset.theme = wanted;
    else delete document.documentElement.dataset.theme;
    writeTheme(wanted);
}

// --- the sheet ---

let made = 0;

function row(label, control, hint, wide = false) {
    const id = `setting-${++made}`;
    control.id = id;
    if (hint) control.setAttribute('aria-describedby', `${id}-hint`);
    return el('div', {class: `field${wide ? ' wide' : ''}`},
        el('label', {for: id}, label), control, hint && el('p', {class: 'hint', id: `${id}-hint`}, hint));
}

function numberRow(settings, field, standard) {
    const input = el('input', {type: 'number', name: field.name, min: field.min, max: field.max, step: field.step, value: settings.values[field.name] ?? '',
        placeholder: standard ?? (field.name === 'seed' ? 'random' : 'as the model'), inputmode: field.min < 0 ? null : 'decimal'});
    const complaint = el('p', {class: 'complaint', role: 'alert', hidden: true});
    input.addEventListener('input', () => {
        const value = input.value.trim() === '' && !input.validity.badInput ? null : input.valueAsNumber;
        const good = value === null || validNumber(field, value);
        input.setAttribute('aria-invalid', String(!good));
        complaint.hidden = good;
        if (good) settings.set(field.name, value);
        else complaint.textContent = `${field.step === 1 ? 'A whole number' : 'A number'} from ${field.min} to ${field.max}`;
    });
    const whole = row(field.label, input, field.hint);
    whole.append(complaint);
    return whole;
}

function choiceRow(label, name, options, value, hint, onchoice) {
    const select = el('select', {name}, options.map(([key, text]) => el('option', {value: key, selected: key === value}, text)));
    select.addEventListener('change', () => onchoice(select.value));
    return row(label, select, hint);
}

function keyRow(settings) {
    const input = el('input', {type: 'password', name: 'key', autocomplete: 'off', spellcheck: 'false', value: settings.key});
    input.addEventListener('change', () => (settings.key = input.value.trim()));
    return row('API key', input, 'Forgotten when this tab is closed.', true);
}

function systemRow(settings) {
    const area = el('textarea', {name: 'system', rows: '3', value: settings.values.system ?? '', placeholder: 'the model’s own'});
    area.addEventListener('input', () => settings.set('system', area.value));
    return row('System prompt', area, 'How the model should behave, for all questions.', true);
}

const group = (title, ...rows) => el('fieldset', {}, el('legend', {}, title), el('div', {class: 'grid'}, ...rows));

function fill(settings, standards) {
    $('fields').replaceChildren(
        group('Answers', ...numbers.map((field) => numberRow(settings, field, standards[field.standard])), systemRow(settings)),
        group('Pictures and video', ...pictureNumbers.map((field) => numberRow(settings, field, standards[field.standard ?? field.name])),
            ...choices.map(({name, label, options, hint}) => choiceRow(label, name, options, settings.values[name] ?? '', hint, (value) => settings.set(name, value)))),
        group('This browser', choiceRow('Theme', 'theme', themes, theme(), '', setTheme), keyRow(settings)));
}

// Opens the sheet. `standards`: what the server does when a field is left empty.
export function openSettings(settings, standards, focus = null) {
    fill(settings, standards);
    $('reset-settings').onclick = () => {
        settings.reset();
        fill(settings, standards);
    };
    $('settings').showModal();
    const first = focus ? $('settings').querySelector(`[name="${focus}"]`) : null;
    first?.focus();
}
