// Places that a model names: `<ref>label</ref><box>[[x1, y1, x2, y2]]</box>`, in thousandths of the picture's width and
// height; the tags may be missing. Boxes are drawn in per cent of the picture, so they are right at any size.
import {copyButton, el} from './dom.js';

const place = /(?:<ref>([^<]*)<\/ref>\s*)?(<box>\s*)?(\[\s*\[[\d.,\s[\]]+\]\s*\]|\[[\d.,\s]+\])(?:\s*<\/box>)?/g;

function corners(source, tagged) {
    let value;
    try {
        value = JSON.parse(source);
    } catch {
        return [];
    }
    if (tagged && value.length === 4 && value.every(Number.isFinite)) value = [value];
    if (!value.every((box) => Array.isArray(box) && box.length === 4 && box.every(Number.isFinite))) return [];
    return value;
}

// Into 0..1000 with the corner nearest to the origin first.
function tidy(box) {
    const scale = box.reduce((sum, x) => sum + x, 0) < 4 ? 1000 : 1;
    const [x1, y1, x2, y2] = box.map((x) => Math.min(1000, Math.max(0, x * scale)));
    return [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
}

// [{label, box}] of an answer.
export function boxesOf(text) {
    const found = [];
    for (const match of text.matchAll(place)) {
        const before = text.slice(0, match.index).split(/[\n.:;,\]>]/).at(-1).trim().slice(-40);
        for (const box of corners(match[3], match[2] !== undefined))
            found.push({label: (match[1] ?? before).trim(), box: tidy(box)});
    }
    return found;
}

// Tags in the text are sure; without them the service's list goes first, then a guess.
export function boxesOfAnswer(text, told) {
    if (text.includes('<box>')) return boxesOf(text);
    const good = (told ?? []).filter(({box}) => Array.isArray(box) && box.length === 4 && box.every(Number.isFinite));
    return good.length ? good.map(({label, box}) => ({label: String(label ?? ''), box: tidy(box)})) : boxesOf(text);
}

// The answer as one reads it: tags become emphasis, a tag that is still arriving is held back.
export function readable(text) {
    return text
        .replace(/<ref>([^<]*)<\/ref>\s*<box>([^<]*)<\/box>/g, '**$1** `$2`')
        .replace(/<box>([^<]*)<\/box>/g, '`$1`')
        .replace(/<\/?(?:ref|box|quad)>/g, '')
        .replace(/<\/?[a-z]{0,4}$/, '');
}

const hues = 6;
const percent = (thousandths) => `${thousandths / 10}%`;
const pixels = (box, media) => box.map((x, i) => Math.round((x * (i % 2 ? media.height : media.width)) / 1000));

// The picture at `url` with its boxes. Returns an element as large as the picture is drawn.
export function pictureWithBoxes(url, alt, boxes) {
    const layer = el('div', {class: 'boxes'});
    boxes.forEach(({label, box: [x1, y1, x2, y2]}, index) => {
        const drawn = el('div', {class: `box hue-${index % hues}${y1 < 60 ? ' label-inside' : ''}`, 'data-box': [x1, y1, x2, y2].join(',')},
            el('span', {}, label || `${index + 1}`));
        drawn.style.left = percent(x1);
        drawn.style.top = percent(y1);
        drawn.style.width = percent(x2 - x1);
        drawn.style.height = percent(y2 - y1);
        layer.append(drawn);
    });
    return el('div', {class: 'with-boxes'}, el('img', {src: url, alt}), layer);
}

// The list under the picture: colour, label, coordinates, copy.
export function legend(boxes, media) {
    const entry = ({label, box}, index) => {
        const whole = box.map(Math.round);
        return el('li', {},
            el('span', {class: `swatch hue-${index % hues}`, 'aria-hidden': 'true'}),
            el('span', {class: 'label'}, label || `Box ${index + 1}`),
            el('code', {}, `[${whole.join(', ')}]`),
            el('span', {class: 'quiet'}, `${pixels(box, media).join(', ')} px`),
            copyButton(`Copy the coordinates of ${label || `box ${index + 1}`}`, () => `[${whole.join(', ')}]`));
    };
    return el('ul', {class: 'legend'}, boxes.map(entry));
}

export const boxesAsJson = (boxes, media) =>
    JSON.stringify(boxes.map(({label, box}) => ({label, box: box.map(Math.round), pixels: pixels(box, media)})));
