// The list of conversations. On narrow screens it slides over the page.
import {$, el, iconButton} from './dom.js';
import {listConversations} from './store.js';

const wide = matchMedia('(min-width: 64rem)');

function setOpen(open) {
    const over = open && !wide.matches;
    $('sidebar').classList.toggle('open', over);
    $('sidebar').inert = !over && !wide.matches;
    $('shade').hidden = !over;
    $('open-sidebar').setAttribute('aria-expanded', String(over));
    document.querySelector('.column').inert = over;
    if (over) $('close-sidebar').focus();
}

export const isOver = () => $('sidebar').classList.contains('open');

export function close() {
    if (!isOver()) return;
    setOpen(false);
    $('open-sidebar').focus();
}

// acts: {open(id), remove(id)}.
export function drawList(currentId, acts) {
    const entries = listConversations().sort((a, b) => b.changed - a.changed);
    $('conversations').replaceChildren(...entries.map(({id, title}) => el('li', {class: id === currentId ? 'current' : ''},
        el('button', {type: 'button', class: 'open', 'aria-current': id === currentId ? 'true' : null, title, onclick: () => acts.open(id)}, title),
        iconButton('bin', `Delete “${title}”`, () => acts.remove(id), {class: 'small'}))));
    $('delete-all').disabled = entries.length === 0;
}

export function watch() {
    $('open-sidebar').addEventListener('click', () => setOpen(true));
    $('close-sidebar').addEventListener('click', close);
    $('shade').addEventListener('click', close);
    wide.addEventListener('change', () => setOpen(false));
    setOpen(false);
}
