// The sheet that shows a picture large, with its boxes, and the tiles that the model sees of it.
import {$, count, el, plural} from './dom.js';
import {legend, pictureWithBoxes} from './boxes.js';
import {partOf} from './conversation.js';
import {urlOf} from './store.js';

const smallest = 50, largest = 400, step = 50;  // per cent of the room there is
let level = 100;

function zoomTo(wanted) {
    level = Math.min(largest, Math.max(smallest, wanted));
    $('zoom-level').textContent = `${level} %`;
    const frame = $('viewer-body').querySelector('.with-boxes');
    if (frame) frame.style.width = `${level}%`;
}

function open(title, note, zoomable) {
    $('viewer-title').textContent = title;
    $('viewer-note').textContent = note;
    $('zoom').hidden = !zoomable;
    $('viewer-body').replaceChildren();
    $('viewer-body').setAttribute('aria-label', title);
    if (!$('viewer').open) $('viewer').showModal();
    $('viewer-body').focus();
}

export async function showPicture(media, boxes = []) {
    open(media.name, `${count(media.width)} × ${count(media.height)} pixels${boxes.length ? ` · ${boxes.length === 1 ? '1 box' : `${boxes.length} boxes`}` : ''}`, true);
    const url = await urlOf(media.id);
    if (url === null) return void ($('viewer-note').textContent = 'This picture is no longer kept in this browser.');
    $('viewer-body').replaceChildren(pictureWithBoxes(url, media.name, boxes), ...(boxes.length ? [legend(boxes, media)] : []));
    zoomTo(100);
}

export async function showVideo(media) {
    open(media.name, `${plural(media.frames ?? 8, 'frame')} will be taken, evenly spread`, false);
    const url = await urlOf(media.id);
    if (url === null) return void ($('viewer-note').textContent = 'This video is no longer kept in this browser.');
    $('viewer-body').replaceChildren(el('video', {src: url, controls: true, class: 'large', 'aria-label': media.name}));
}

function tile(address, index, columns, isThumbnail) {
    const where = isThumbnail ? 'thumbnail' : `column ${(index % columns) + 1}, row ${Math.floor(index / columns) + 1}`;
    return el('figure', {class: 'tile'},
        el('img', {src: address, width: 448, height: 448, alt: `Tile ${index + 1}, ${where}`}),
        el('figcaption', {}, isThumbnail ? `${index + 1} · thumbnail` : `${index + 1}`));
}

// Asks the service for the exact tiles of a picture.
export async function showTiles(media, server, model) {
    open(media.name, 'Asking for the tiles…', false);
    let reply;
    try {
        const {image_url} = await partOf(media);
        reply = await server.post('v1/estimate', {model, images: [{image_url}], return_tiles: true});
    } catch (error) {
        $('viewer-note').textContent = error.message;
        return;
    }
    const image = reply.images[0], addresses = reply.tiles_png ?? image.tiles_png ?? [];
    const [columns, rows] = image.grid;
    const cut = columns * rows;
    const grid = el('div', {class: 'tiles'}, addresses.slice(0, cut).map((each, i) => tile(each, i, columns, false)));
    grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    grid.style.maxWidth = `min(100%, calc(62vh * ${columns / rows}))`;
    $('viewer-note').textContent = `What the model sees: ${columns} × ${rows} tiles${image.thumbnail ? ' and the whole picture as a thumbnail' : ''}, ` +
        `each 448 × 448 pixels and 256 tokens. ${count(image.tokens)} tokens together.`;
    $('viewer-body').replaceChildren(grid, ...addresses.slice(cut).map((each, i) => el('div', {class: 'tiles thumbnail'}, tile(each, cut + i, columns, true))));
}

$('zoom-in').addEventListener('click', () => zoomTo(level + step));
$('zoom-out').addEventListener('click', () => zoomTo(level - step));
$('close-viewer').addEventListener('click', () => $('viewer').close());
$('viewer').addEventListener('click', (event) => {
    if (event.target === $('viewer')) $('viewer').close();
});
$('viewer').addEventListener('close', () => $('viewer-body').replaceChildren());
