// A small Markdown: paragraphs, headings, lists, quotes, code, tables, emphasis, links. It is built from text nodes and
// never from markup; HTML in an answer stays text, pictures become links, and a link leads to http(s) or nowhere.
import {el} from './dom.js';

// What is emphasised is at most this long: without a bound, text that only opens emphasis would take forever.
// A rule marked 'word' does not begin in the middle of a word.
const inlineRules = [
    [/^\\([\\`*_{}[\]()#+\-.!|~<>])/, (m) => m[1]],
    [/^\*\*(?=\S)([^]{0,500}?\S)\*\*(?!\*)/, (m) => el('strong', {}, inline(m[1]))],
    [/^__(?=\S)([^]{0,500}?\S)__(?![\p{L}\p{N}_])/u, (m) => el('strong', {}, inline(m[1])), 'word'],
    [/^\*(?=[^\s*])([^]{0,500}?[^\s*])\*(?!\*)/, (m) => el('em', {}, inline(m[1])), 'word'],
    [/^_(?=[^\s_])([^]{0,500}?[^\s_])_(?![\p{L}\p{N}_])/u, (m) => el('em', {}, inline(m[1])), 'word'],
    [/^~~(?=\S)([^]{0,500}?\S)~~/, (m) => el('del', {}, inline(m[1]))],
    [/^!\[([^\]\n]{0,300})\]\(([^()\s]{1,2000}(?:\([^()\s]{0,200}\))?)\s{0,9}(?:"[^"\n]{0,300}")?\)/, (m) => link(m[2], [`picture: ${m[1] || m[2]}`], m[0])],
    [/^\[([^\]\n]{1,300})\]\(([^()\s]{1,2000}(?:\([^()\s]{0,200}\))?)\s{0,9}(?:"[^"\n]{0,300}")?\)/, (m) => link(m[2], inline(m[1]), m[0])],
    [/^<(https?:\/\/[^\s<>]{1,2000})>/, (m) => link(m[1], [m[1]], m[0])],
    [/^https?:\/\/[^\s<>]{0,2000}[^\s<>.,;:!?)\]'"]/, (m) => link(m[0], [m[0]], m[0]), 'word'],
];

// Code between two runs of as many backticks, as a match of an inline rule; a run without its partner is text.
function codeSpan(rest) {
    const [run] = /^`+/.exec(rest);
    for (const other of rest.slice(run.length, 2000).matchAll(/`+/g)) {
        if (other[0].length !== run.length) continue;
        const inner = rest.slice(run.length, run.length + other.index);
        return {node: el('code', {}, inner.trim() || inner), length: 2 * run.length + inner.length};
    }
    return {node: run, length: run.length};
}

function link(address, children, source) {
    let url;
    try {
        url = new URL(address);
    } catch {
        return source;
    }
    if (url.protocol !== 'https:' && url.protocol !== 'http:') return source;
    return el('a', {href: url.href, target: '_blank', rel: 'noopener noreferrer', title: url.href}, ...children);
}

// Text with emphasis, code and links as a list of nodes and strings.
export function inline(text) {
    const out = [];
    let plain = '';
    const flush = () => {
        if (plain) out.push(plain);
        plain = '';
    };
    for (let at = 0; at < text.length;) {
        const next = text.slice(at).search(/[\\`*_~![<\n]|https?:/);
        if (next !== 0) {
            const end = next < 0 ? text.length : at + next;
            plain += text.slice(at, end);
            at = end;
            continue;
        }
        if (text[at] === '\n') {
            plain = plain.trimEnd();
            flush();
            out.push(el('br'));
            at += 1;
            continue;
        }
        const rest = text.slice(at);
        if (text[at] === '`') {
            const {node, length} = codeSpan(rest);
            flush();
            out.push(node);
            at += length;
            continue;
        }
        const inWord = /[\p{L}\p{N}_]$/u.test(text.slice(Math.max(0, at - 2), at));
        let match = null, build;
        for (const [pattern, make, place] of inlineRules) {
            if (place === 'word' && inWord) continue;
            if ((match = pattern.exec(rest)) !== null) {
                build = make;
                break;
            }
        }
        if (match === null) {
            plain += text[at++];
            continue;
        }
        flush();
        out.push(build(match));
        at += match[0].length;
    }
    flush();
    return out;
}

const fence = /^ {0,3}(```+|~~~+)\s*([^`]*)$/;
const heading = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const rule = /^ {0,3}([-*_])( *\1){2,} *$/;
const bullet = /^( *)([-*+]|\d{1,9}[.)])( +|$)(.*)$/;
const quote = /^ {0,3}> ?(.*)$/;
const tableRule = /^ *\|?( *:?-+:? *\|)+( *:?-+:? *)?\|? *$/;

const cells = (line) => line.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));

// Splits text into blocks {kind, lines, ...}. A later line never changes the blocks before the last one, so a growing
// answer needs only its tail drawn again.
export function blocks(text) {
    const lines = text.replaceAll('\r\n', '\n').split('\n');
    const found = [];
    for (let at = 0; at < lines.length;) {
        const line = lines[at];
        const take = (kind, test, extra = {}) => {
            const begin = at;
            while (at < lines.length && test(lines[at], at - begin)) ++at;
            found.push({kind, lines: lines.slice(begin, at), ...extra});
        };
        let match;
        if (!line.trim()) {
            ++at;
        } else if ((match = fence.exec(line)) !== null) {
            let end = at + 1;
            while (end < lines.length && !(lines[end].trim().startsWith(match[1]) && fence.test(lines[end]))) ++end;
            found.push({kind: 'code', lines: lines.slice(at + 1, end), language: match[2].trim()});
            at = end + 1;
        } else if (heading.test(line)) {
            take('heading', (_, index) => index === 0);
        } else if (rule.test(line)) {
            take('rule', (_, index) => index === 0);
        } else if (quote.test(line)) {
            take('quote', (each) => quote.test(each));
        } else if (bullet.test(line)) {
            // Blank lines stay inside while an indented line or another bullet follows.
            take('list', (each, index) => {
                if (each.trim()) return index === 0 || bullet.test(each) || /^ {2,}/.test(each) || lines[at - 1].trim() !== '';
                const following = lines.slice(at).find((later) => later.trim());
                return following !== undefined && (bullet.test(following) || /^ {2,}/.test(following));
            });
        } else if (line.includes('|') && tableRule.test(lines[at + 1] ?? '')) {
            take('table', (each) => each.includes('|'));
        } else {
            take('paragraph', (each, index) => index === 0 ||
                (each.trim() && ![fence, heading, rule, quote].some((one) => one.test(each)) && !/^ {0,3}([-*+]|1[.)]) /.test(each)));
        }
    }
    return found;
}

function table({lines}) {
    const align = cells(lines[1]).map((cell) => (cell.endsWith(':') ? (cell.startsWith(':') ? 'center' : 'end') : 'start'));
    const row = (line, tag) => {
        const texts = cells(line);
        return el('tr', {}, align.map((side, i) => el(tag, {class: `to-${side}`, scope: tag === 'th' ? 'col' : null}, inline(texts[i] ?? ''))));
    };
    return el('div', {class: 'scroll', tabindex: '0', role: 'group', 'aria-label': 'Table'}, el('table', {},
        el('thead', {}, row(lines[0], 'th')), el('tbody', {}, lines.slice(2).map((line) => row(line, 'td')))));
}

function list({lines}, depth) {
    const first = bullet.exec(lines[0]);
    const ordered = /\d/.test(first[2]);
    const items = [];
    for (const line of lines) {
        const match = bullet.exec(line);
        if (match !== null && match[1].length < first[1].length + 2) items.push([match[4]]);
        else items.at(-1).push(line.replace(/^ {1,4}/, ''));
    }
    const start = ordered && parseInt(first[2], 10) !== 1 ? parseInt(first[2], 10) : null;
    return el(ordered ? 'ol' : 'ul', {start}, items.map((item) => {
        const inner = blocks(item.join('\n'));
        const plain = inner[0]?.kind === 'paragraph' ? inner.shift() : null;
        return el('li', {}, plain ? inline(plain.lines.join('\n')) : [], inner.map((each) => draw(each, depth + 1)));
    }));
}

const deepest = 8;

// One block as an element. What lies deeper than anyone writes is drawn as plain text.
export function draw(block, depth = 0) {
    const text = block.lines.join('\n');
    switch (depth < deepest ? block.kind : 'paragraph') {
        case 'heading': {
            const match = heading.exec(block.lines[0]);
            return el(`h${Math.min(6, match[1].length + 2)}`, {}, inline(match[2]));
        }
        case 'rule': return el('hr');
        case 'quote': return el('blockquote', {}, blocks(block.lines.map((line) => quote.exec(line)[1]).join('\n')).map((each) => draw(each, depth + 1)));
        case 'code': return el('pre', {tabindex: '0', role: 'group', 'aria-label': `Code${block.language ? `, ${block.language}` : ''}`}, el('code', {}, text));
        case 'list': return list(block, depth);
        case 'table': return table(block);
        default: return el('p', {}, inline(text));
    }
}

// Draws `text` into `target`, keeping the elements of blocks that have not changed.
export function render(target, text) {
    const wanted = blocks(text);
    const drawn = target.drawnBlocks ?? [];
    let same = 0;
    const name = (block) => `${block.kind}\n${block.lines.join('\n')}`;
    while (same < wanted.length && same < drawn.length && drawn[same] === name(wanted[same])) ++same;
    while (target.childElementCount > same) target.lastElementChild.remove();
    target.append(...wanted.slice(same).map((block) => draw(block)));
    target.drawnBlocks = wanted.map(name);
}
