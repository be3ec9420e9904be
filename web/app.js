// Puts the page together: which conversation is open, what runs, who hears of what.
import {$, announce, confirmed, el} from './dom.js';
import {runAnswer} from './answer.js';
import {Composer} from './composer.js';
import {defaultFrames, mediaOf, newAnswer, newConversation, newTurn, settle, titleOf} from './conversation.js';
import {Estimator} from './estimate.js';
import {pause, Server} from './server.js';
import {isDark, openSettings, setTheme, Settings} from './settings.js';
import * as sidebar from './sidebar.js';
import * as store from './store.js';
import {Transcript} from './transcript.js';
import {showTiles} from './viewer.js';

const ideas = [
    ['Describe the picture', 'Please describe the picture in detail.'],
    ['Read the text', 'Read all the text in the picture.'],
    ['Find something', 'Please provide the bounding box coordinate of the region this sentence describes: <ref>the cat</ref>'],
    ['What happens in the clip?', 'What happens in the video? Describe it in order.'],
];

const settings = new Settings();
const server = new Server(() => settings.key);
const estimator = new Estimator(server);
let models = [];
let model = null;
let conversation = newConversation();
let running = null;  // {controller, turn} while an answer is made

const composer = new Composer({
    settings, estimator,
    history: () => conversation.turns.slice(0, composer.editing ?? conversation.turns.length),
    model: () => model?.id,
    tilesOf: (media) => showTiles(media, server, model?.id),
    videoBefore: () => mediaOf(conversation.turns.slice(0, composer.editing ?? conversation.turns.length)).some(({kind}) => kind === 'video'),
});
const transcript = new Transcript({
    edit: (index) => composer.edit(index, conversation.turns[index].question),
    regenerate: (index) => answer(index, false),
    proceed: (index) => answer(index, true),
    openKey: () => showSettings('key'),
    save: () => save(),
});

// --- keeping ---

function save() {
    if (conversation.turns.length === 0) return;
    conversation.title = titleOf(conversation);
    conversation.changed = Date.now();
    store.writeCurrent(conversation.id);
    if (!store.writeConversation(conversation)) notice('This browser has no room to keep the conversation. It will be lost when the page is closed.');
    drawList();
}

function drawList() {
    sidebar.drawList(conversation.id, {open: openConversation, remove: removeConversation});
}

function show() {
    transcript.show(conversation.turns);
    $('welcome').hidden = conversation.turns.length > 0;
    $('clear').disabled = conversation.turns.length === 0;
    document.title = conversation.turns.length ? `${titleOf(conversation)} · internvl` : 'internvl';
    drawList();
    composer.refresh();
}

function change(to) {
    stop();
    conversation = to;
    store.writeCurrent(to.id);
    composer.clear();
    show();
    sidebar.close();
    composer.focus();
}

function openConversation(id) {
    const found = store.readConversation(id);
    if (!found) {
        store.removeConversation(id);
        return drawList();
    }
    change(settle(found));
    transcript.toEnd();
}

async function removeConversation(id) {
    const found = id === conversation.id ? conversation : store.readConversation(id);
    const title = found ? titleOf(found) : 'this conversation';
    if (!await confirmed('Delete this conversation?', `“${title}” and its pictures will be gone for good.`, 'Delete')) return;
    if (id === conversation.id) change(newConversation());
    if (found) await store.deleteConversation(found);
    else store.removeConversation(id);
    drawList();
    announce('Deleted');
}

async function deleteAll() {
    if (!await confirmed('Delete everything?', 'All conversations and pictures in this browser will be gone for good. Settings stay.', 'Delete all')) return;
    change(newConversation());
    await store.deleteEverything();
    drawList();
    announce('Everything deleted');
}

// --- asking ---

function ask() {
    const question = {text: composer.text.trim(), media: composer.attachments.media};
    const cut = composer.editing ?? conversation.turns.length;
    if (running) return;
    if (!model) return void loadModels();
    const before = mediaOf(conversation.turns);
    conversation.turns.splice(cut, Infinity, newTurn(question.text, question.media));
    const kept = new Set(mediaOf(conversation.turns).map(({id}) => id));
    composer.clear();
    store.dropMedia(before.filter(({id}) => !kept.has(id)));
    store.keepMedia(question.media).then((kept) => kept || notice('This browser does not keep pictures. They will be lost when the page is closed.'));
    answer(cut, false);
}

// Answers question `index`, the last one; `proceed` goes on where the answer ended.
async function answer(index, proceed) {
    if (running || !model) return;
    const turn = conversation.turns[index], mine = conversation;
    if (proceed) Object.assign(turn.answer, {state: 'waiting', finish: null, error: null});
    else turn.answer = newAnswer(model.id);
    const controller = new AbortController();
    running = {controller, turn};
    composer.busy = true;
    show();
    save();
    transcript.view(index).update();
    if (document.activeElement === document.body) $('stop').focus();  // the button that began this is gone
    transcript.toEnd();
    const view = () => (mine === conversation && conversation.turns[index] === turn ? transcript.view(index) : null);
    await runAnswer({
        turns: mine.turns.slice(0, index + 1), server, model: model.id, settings, signal: controller.signal,
        changed: (note) => (note ? view()?.update(note) : view()?.schedule()),
    });
    if (running?.turn === turn) {
        running = null;
        composer.busy = false;
    }
    if (mine !== conversation) {
        if (store.readConversation(mine.id)) store.writeConversation(mine);
        return drawList();
    }
    view()?.update();
    view()?.speakRest();
    announce({done: 'The answer is complete', stopped: 'Stopped', failed: `The answer failed. ${turn.answer.error?.message}`}[turn.answer.state]);
    save();
    composer.refresh();
}

function stop() {
    if (!running) return;
    running.controller.abort();
    running.turn.answer.state = 'stopped';
    running = null;
    composer.busy = false;
}

// --- the server ---

function notice(text, ...more) {
    $('notice').hidden = !text;
    $('notice').replaceChildren(...(text ? [el('p', {}, text), ...more] : []));
}

const button = (text, onclick) => el('button', {type: 'button', class: 'secondary', onclick}, text);

function showModels() {
    model = models.find(({id}) => id === model?.id) ?? models[0];
    $('model').textContent = model.id.split('/').at(-1);
    $('model').hidden = models.length > 1;
    $('model-choice').closest('label').hidden = models.length < 2;
    $('model-choice').replaceChildren(...models.map(({id}) => el('option', {value: id, selected: id === model.id}, id.split('/').at(-1))));
    composer.standardLimit = model.max_dynamic_patch ?? 12;
}

async function loadModels() {
    for (;;) {
        try {
            models = (await server.get('v1/models')).data ?? [];
            if (!models.length) throw new Error('The server offers no model.');
            showModels();
            notice('');
            estimator.forget();
            return composer.refresh();
        } catch (error) {
            if (error.status === 401) return notice('This server asks for an API key.', button('Enter the API key', () => showSettings('key')));
            if (!error.retryAfter) return notice(error.message, button('Try again', loadModels));
            await pause(error.retryAfter, null, (left) => notice(`${error.message} Trying again in ${left} s.`));
        }
    }
}

function showSettings(focus) {
    const {defaults = {}, max_dynamic_patch: tile_limit} = model ?? {};
    openSettings(settings, {...defaults, tile_limit, frames: defaultFrames}, focus);
}

// --- the page ---

function escape(event) {
    if (event.key !== 'Escape' || event.isComposing || document.querySelector('dialog[open]')) return;
    if (sidebar.isOver()) sidebar.close();
    else if (running) stop();
    else if (composer.editing !== null) composer.clear();
    else return;
    event.preventDefault();
}

function drawTheme() {
    const next = isDark() ? 'light' : 'dark';
    $('theme').setAttribute('aria-label', `Switch to the ${next} theme`);
    $('theme').title = `Switch to the ${next} theme`;
}

function start() {
    $('ideas').append(...ideas.map(([title, text]) => el('li', {}, el('button', {type: 'button', class: 'idea', onclick: () => {
        composer.text = text;
        composer.refresh();
        composer.focus();
        const begin = text.indexOf('<ref>') + 5;
        if (begin >= 5) $('question').setSelectionRange(begin, text.indexOf('</ref>'));
    }}, title))));
    composer.addEventListener('send', ask);
    composer.addEventListener('cancel', () => composer.clear());
    settings.addEventListener('key', loadModels);
    $('stop').addEventListener('click', stop);
    $('new-conversation').addEventListener('click', () => change(newConversation()));
    $('clear').addEventListener('click', () => removeConversation(conversation.id));
    $('delete-all').addEventListener('click', deleteAll);
    $('open-settings').addEventListener('click', () => showSettings());
    $('model-choice').addEventListener('change', () => {
        model = models.find(({id}) => id === $('model-choice').value);
        showModels();
        composer.refresh();
    });
    $('theme').addEventListener('click', () => {
        setTheme(isDark() ? 'light' : 'dark');
        drawTheme();
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawTheme);
    document.addEventListener('keydown', escape);
    // A page that is closed in the middle of an answer keeps what has come.
    for (const leaving of ['beforeunload', 'pagehide']) addEventListener(leaving, () => {
        if (!running) return;
        stop();
        save();
    });
    const keptId = store.readCurrent();
    conversation = settle((keptId && store.readConversation(keptId)) || conversation);
    addEventListener('storage', drawList);  // another tab began or deleted a conversation
    sidebar.watch();
    drawTheme();
    show();
    transcript.toEnd();
    composer.focus();
    loadModels();
}

start();
