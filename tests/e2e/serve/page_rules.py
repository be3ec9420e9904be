"""Rules of accessibility that a page can be held to by looking at it: names, contrast, width, focus. Each function
returns a list of what is wrong."""

NAMES = """() => {
    const visible = (node) => node.checkVisibility({checkOpacity: false, checkVisibilityCSS: true});
    const nameOf = (node) => {
        const by = node.getAttribute('aria-labelledby');
        if (by) return by.split(' ').map((id) => document.getElementById(id)?.textContent ?? '').join(' ').trim();
        if (node.getAttribute('aria-label')) return node.getAttribute('aria-label').trim();
        if (node.labels?.length) return [...node.labels].map((label) => label.textContent).join(' ').trim();
        return ['INPUT', 'SELECT', 'TEXTAREA'].includes(node.tagName) ? '' : node.textContent.trim();
    };
    const wrong = [];
    const tell = (node, what) => wrong.push(`${what}: <${node.tagName.toLowerCase()} id="${node.id}" class="${node.className}">`);
    for (const node of document.querySelectorAll('button, a[href], input, select, textarea, dialog[open], nav, [role="group"], [tabindex="0"]'))
        if (visible(node) && !nameOf(node)) tell(node, 'no name');
    for (const node of document.querySelectorAll('img')) if (!node.hasAttribute('alt')) tell(node, 'no alt');
    for (const node of document.querySelectorAll('video')) if (visible(node) && !nameOf(node) && !node.closest('button[aria-label]')) tell(node, 'no name');
    for (const node of document.querySelectorAll('[aria-describedby], [aria-controls], [aria-labelledby]'))
        for (const attribute of ['aria-describedby', 'aria-controls', 'aria-labelledby'])
            for (const id of (node.getAttribute(attribute) ?? '').split(' ').filter(Boolean))
                if (!document.getElementById(id)) tell(node, `${attribute} names nothing`);
    const ids = [...document.querySelectorAll('[id]')].map(({id}) => id);
    for (const id of ids.filter((each, i) => ids.indexOf(each) !== i)) wrong.push(`id twice: ${id}`);
    for (const node of document.querySelectorAll('ul, ol'))
        for (const child of node.children) if (child.tagName !== 'LI') tell(child, 'not an item of its list');
    for (const node of document.querySelectorAll('button button, a button, button a, [tabindex]:not([tabindex="0"]):not([tabindex="-1"])'))
        tell(node, 'nested or ordered by tabindex');
    const levels = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].filter(visible).map(({tagName}) => Number(tagName[1]));
    if (levels.filter((level) => level === 1).length !== 1) wrong.push('not exactly one h1');
    if (!document.documentElement.lang) wrong.push('no language');
    if (document.querySelectorAll('main').length !== 1) wrong.push('not exactly one main');
    return wrong;
}"""

# Every visible text against what lies behind it: 4.5:1, or 3:1 when it is large. Controls that are off are exempt.
CONTRAST = """() => {
    const pixel = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = (colour) => {
        pixel.clearRect(0, 0, 1, 1);
        pixel.fillStyle = colour;
        pixel.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
    const luminance = (colour) => {
        const [r, g, b] = colour.map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (a, b) => {
        const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
        return (light + 0.05) / (dark + 0.05);
    };
    const groundOf = (node) => {
        const layers = [];
        for (let at = node; at; at = at.parentElement) {
            const colour = rgba(getComputedStyle(at).backgroundColor);
            layers.push(colour);
            if (colour[3] === 1) break;
        }
        return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255, 1]);
    };
    const wrong = new Set();
    const judge = (node, colour, text) => {
        const style = getComputedStyle(node);
        let opacity = 1;
        for (let at = node; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
        if (opacity === 0 || node.closest(':disabled, [aria-disabled="true"], .hidden, .skip, [inert]')) return;
        const ground = groundOf(node), ink = rgba(colour);
        const found = ratio(over([ink[0], ink[1], ink[2], ink[3] * opacity], ground), ground);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        if (found < (large ? 3 : 4.5)) wrong.add(`${found.toFixed(2)}:1 "${text.trim().slice(0, 40)}" <${node.tagName.toLowerCase()} class="${node.className}">`);
    };
    const root = document.querySelector('dialog[open]') ?? document.body;
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
        const parent = node.parentElement;
        if (!node.data.trim() || !parent.checkVisibility({checkVisibilityCSS: true}) || parent.closest('script, style, option, svg')) continue;
        judge(parent, getComputedStyle(parent).color, node.data);
    }
    for (const node of root.querySelectorAll('input, textarea, select'))
        if (node.checkVisibility({checkVisibilityCSS: true})) {
            judge(node, getComputedStyle(node).color, node.value || node.name || node.id);
            if (node.placeholder) judge(node, getComputedStyle(node, '::placeholder').color, node.placeholder);
        }
    // A picture that is a control needs 3:1.
    for (const node of root.querySelectorAll('button svg')) {
        const button = node.closest('button');
        if (!button.checkVisibility({checkVisibilityCSS: true, checkOpacity: true}) || button.matches(':disabled, [aria-disabled="true"]')) continue;
        const found = ratio(rgba(getComputedStyle(node).color), groundOf(node));
        if (found < 3) wrong.add(`${found.toFixed(2)}:1 icon of "${button.getAttribute('aria-label') ?? button.textContent}"`);
    }
    return [...wrong];
}"""

WIDTH = """() => [...document.querySelectorAll('body *')].filter((node) => {
    const box = node.getBoundingClientRect();
    const hidden = !node.checkVisibility({checkVisibilityCSS: true}) || node.closest('.hidden, .sprite, .attachments, .scroll, pre, .viewer-body, dialog:not([open]), .skip, .sidebar:not(.open)');
    return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1) && !hidden;
}).map((node) => `beyond the edge: <${node.tagName.toLowerCase()} id="${node.id}" class="${node.className}">`)
    .concat(document.documentElement.scrollWidth > innerWidth ? ['the page scrolls sideways'] : [])"""

# What can be reached by Tab, for comparison with what Tab reaches.
REACHABLE = """() => {
    const root = document.querySelector('dialog[open]') ?? document.body;
    const nodes = [...root.querySelectorAll('button, a[href], input, select, textarea, [tabindex="0"], video[controls], summary')]
        .filter((node) => node.checkVisibility({checkVisibilityCSS: true}) && !node.disabled && node.tabIndex >= 0 && !node.closest('[inert]'));
    nodes.forEach((node, index) => (node.dataset.reachable = index));
    return nodes.length;
}"""

FOCUSED = """() => {
    const node = document.activeElement;
    const style = getComputedStyle(node), card = node.id === 'question' ? getComputedStyle(node.closest('.card')) : null;
    const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
    const box = node.getBoundingClientRect();
    const above = document.elementFromPoint(box.left + box.width / 2, box.top + Math.min(box.height, innerHeight - box.top) / 2);
    return {index: node.dataset?.reachable ?? null, name: node.getAttribute('aria-label') ?? node.id ?? node.textContent,
            seen: ring || (card !== null && card.boxShadow !== 'none' && card.borderColor !== ''),
            inside: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth &&
                (node.contains(above) || above?.contains(node))};
}"""


def names(page):
    return page.evaluate(NAMES)


def contrast(page):
    return page.evaluate(CONTRAST)


def width(page):
    return page.evaluate(WIDTH)


def focus_order(page):
    """Presses Tab through the page: everything must be reached in the order of the document, and be seen."""
    total = page.evaluate(REACHABLE)
    page.evaluate("() => { document.activeElement.blur(); getSelection().removeAllRanges(); }")
    wrong, reached = [], []
    for _ in range(total + 3):
        page.keyboard.press("Tab")
        told = page.evaluate(FOCUSED)
        if told["index"] is None:
            continue
        if int(told["index"]) in reached:
            break
        reached.append(int(told["index"]))
        if not told["seen"]:
            wrong.append(f"focus not seen: {told['name']}")
        if not told["inside"]:
            wrong.append(f"focus outside of the window or covered: {told['name']}")
    missing = sorted(set(range(total)) - set(reached))
    start = reached.index(min(reached)) if reached else 0
    turned = reached[start:] + reached[:start]
    if turned != sorted(turned):
        wrong.append(f"not in the order of the document: {reached}")
    return wrong + [f"not reached: number {index} of {total}" for index in missing]
