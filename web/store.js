// What stays in this browser: conversations and settings in local storage, pictures and videos in IndexedDB, the API key
// in the tab's session storage. A browser that refuses to keep things still works until the page is closed.

const prefix = 'internvl.';
const indexName = `${prefix}conversations`;

function read(storage, name, otherwise) {
    try {
        const text = storage().getItem(name);
        return text === null ? otherwise : JSON.parse(text);
    } catch {
        return otherwise;
    }
}

function write(storage, name, value) {
    try {
        if (value === null) storage().removeItem(name);
        else storage().setItem(name, JSON.stringify(value));
        return true;
    } catch {
        return false;
    }
}

const local = () => localStorage, session = () => sessionStorage;

export const readSettings = () => read(local, `${prefix}settings`, {});
export const writeSettings = (settings) => write(local, `${prefix}settings`, settings);
export const readKey = () => read(session, `${prefix}key`, '');
export const writeKey = (key) => write(session, `${prefix}key`, key || null);
export const readCurrent = () => read(session, `${prefix}current`, null) ?? listConversations()[0]?.id ?? null;
export const writeCurrent = (id) => write(session, `${prefix}current`, id);

export function writeTheme(theme) {
    try {
        if (theme) localStorage.setItem(`${prefix}theme`, theme);
        else localStorage.removeItem(`${prefix}theme`);
    } catch {
        // The choice holds until the page is closed.
    }
}

// [{id, title, changed}], the newest first.
export function listConversations() {
    const list = read(local, indexName, []);
    return Array.isArray(list) ? list.filter((entry) => typeof entry?.id === 'string') : [];
}

export function readConversation(id) {
    const found = read(local, `${prefix}conversation.${id}`, null);
    return found && Array.isArray(found.turns) ? found : null;
}

// False when the browser has no room or permission.
export function writeConversation(conversation) {
    const {id, title, changed} = conversation;
    const others = listConversations().filter((entry) => entry.id !== id);
    return write(local, `${prefix}conversation.${id}`, conversation) && write(local, indexName, [{id, title, changed}, ...others]);
}

export function removeConversation(id) {
    write(local, `${prefix}conversation.${id}`, null);
    write(local, indexName, listConversations().filter((entry) => entry.id !== id));
}

const mediaOf = (conversation) => conversation.turns.flatMap((turn) => turn.question.media);

// --- pictures and videos: id -> Blob, here and in IndexedDB ---

const blobs = new Map(), urls = new Map();
let opened = null;

function database() {
    opened ??= new Promise((resolve, reject) => {
        const request = indexedDB.open('internvl', 1);
        request.onupgradeneeded = () => request.result.createObjectStore('media');
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
        request.onblocked = () => reject(new Error('blocked'));
    });
    return opened;
}

async function transact(mode, act) {
    const transaction = (await database()).transaction('media', mode);
    const request = act(transaction.objectStore('media'));
    return new Promise((resolve, reject) => {
        transaction.oncomplete = () => resolve(request?.result);
        transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
}

export function holdBlob(id, blob) {
    blobs.set(id, blob);
}

// Writes what a sent question holds. False when the browser keeps nothing.
export async function keepMedia(media) {
    if (media.length === 0) return true;
    try {
        await transact('readwrite', (store) => media.map(({id}) => blobs.has(id) && store.put(blobs.get(id), id)).at(-1) || null);
        return true;
    } catch {
        return false;
    }
}

// null: gone, for example because the user cleared the site's data by halves.
export async function blobOf(id) {
    if (!blobs.has(id)) {
        const kept = await transact('readonly', (store) => store.get(id)).catch(() => null);
        if (!(kept instanceof Blob)) return null;
        blobs.set(id, kept);
    }
    return blobs.get(id);
}

export async function urlOf(id) {
    if (!urls.has(id)) {
        const blob = await blobOf(id);
        if (blob === null) return null;
        urls.set(id, URL.createObjectURL(blob));
    }
    return urls.get(id);
}

// As a data: address, for requests.
export async function dataUrlOf(id) {
    const blob = await blobOf(id);
    if (blob === null) return null;
    return new Promise((resolve, reject) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result);
        reader.onerror = () => reject(reader.error);
        reader.readAsDataURL(blob);
    });
}

export async function dropMedia(media) {
    for (const {id} of media) {
        blobs.delete(id);
        if (urls.has(id)) URL.revokeObjectURL(urls.get(id));
        urls.delete(id);
    }
    await transact('readwrite', (store) => media.map(({id}) => store.delete(id)).at(-1) ?? null).catch(() => null);
}

export async function deleteConversation(conversation) {
    removeConversation(conversation.id);
    await dropMedia(mediaOf(conversation));
}

export async function deleteEverything() {
    for (const {id} of listConversations()) removeConversation(id);
    try {
        const names = Array.from({length: localStorage.length}, (_, i) => localStorage.key(i));
        for (const name of names) if (name.startsWith(`${prefix}conversation`)) localStorage.removeItem(name);
    } catch {
        // Nothing was kept.
    }
    for (const url of urls.values()) URL.revokeObjectURL(url);
    urls.clear();
    blobs.clear();
    await transact('readwrite', (store) => store.clear()).catch(() => null);
}
