// A conversation as data: turns of a question (text and media) and its answer, and the request that it makes.
//
//   media   {id, kind: 'picture' | 'video', name, bytes, width, height, limit, detail, frames}
//   answer  {text, state: 'waiting' | 'running' | 'done' | 'stopped' | 'failed', finish, error, stats, boxes, model}
import {newId} from './dom.js';
import {dataUrlOf} from './store.js';
import {ServerError} from './server.js';

export const defaultFrames = 8;  // of a video, the service's own choice

export const newConversation = () => ({id: newId(), title: '', changed: Date.now(), turns: []});
export const newTurn = (text, media) => ({question: {text, media}, answer: null});
export const newAnswer = (model) => ({text: '', state: 'waiting', finish: null, error: null, stats: null, boxes: [], model});

export const mediaOf = (turns) => turns.flatMap((turn) => turn.question.media);
export const picturesOf = (turns) => mediaOf(turns).filter(({kind}) => kind === 'picture');
export const isBusy = (answer) => answer !== null && (answer.state === 'waiting' || answer.state === 'running');

export function titleOf(conversation) {
    const first = conversation.turns[0]?.question;
    if (!first) return 'New conversation';
    return first.text.trim().split('\n')[0].slice(0, 80) || first.media[0]?.name || 'Conversation';
}

// What a page that was closed in the middle of an answer left behind.
export function settle(conversation) {
    for (const {answer} of conversation.turns) if (isBusy(answer)) answer.state = 'stopped';
    return conversation;
}

// A question that got no answer is not asked again with the next one: what made it fail would make that fail, too.
export const isRemembered = ({answer}) => answer !== null && (answer.text !== '' || answer.state === 'done');

// A picture or video as a part of a message, with its bytes.
export async function partOf(media) {
    const url = await dataUrlOf(media.id);
    if (url === null) throw new ServerError(`“${media.name}” is no longer kept in this browser. Edit the question and add it again.`);
    if (media.kind === 'video') return {type: 'video_url', video_url: {url, num_segments: media.frames ?? defaultFrames}};
    const image = {url};
    if (media.limit) image.max_dynamic_patch = media.limit;
    if (media.detail) image.detail = media.detail;
    return {type: 'image_url', image_url: image};
}

// Messages of `turns`, of which the last one is to be answered. `part` makes the part of a picture or video.
export async function messagesOf(turns, system, part) {
    const messages = system ? [{role: 'system', content: system}] : [];
    for (const [index, turn] of turns.entries()) {
        if (index + 1 < turns.length && !isRemembered(turn)) continue;
        const {text, media} = turn.question;
        const parts = [];
        for (const each of media) parts.push(await part(each));
        if (text || !parts.length) parts.push({type: 'text', text});
        messages.push({role: 'user', content: media.length ? parts : text});
        if (turn.answer?.text) messages.push({role: 'assistant', content: turn.answer.text});
    }
    return messages;
}
