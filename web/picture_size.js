// Width and height of a picture as they stand in its header. The browser's own numbers follow the EXIF rotation, which
// the model does not: it sees pictures as they are stored.

const ascii = (bytes, at, length) => String.fromCharCode(...bytes.subarray(at, at + length));

function jpegSize(view) {
    for (let at = 2; at + 9 < view.byteLength;) {
        if (view.getUint8(at) !== 0xff) return null;
        const marker = view.getUint8(at + 1);
        const startOfFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
        if (startOfFrame) return {width: view.getUint16(at + 7), height: view.getUint16(at + 5)};
        if (marker === 0xff) at += 1;
        else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) at += 2;
        else at += 2 + view.getUint16(at + 2);
    }
    return null;
}

function webpSize(bytes, view) {
    const uint24 = (at) => view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    switch (ascii(bytes, 12, 4)) {
        case 'VP8 ': return {width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff};
        case 'VP8X': return {width: uint24(24) + 1, height: uint24(27) + 1};
        case 'VP8L': {
            const bits = view.getUint32(21, true);
            return {width: (bits & 0x3fff) + 1, height: ((bits >> 14) & 0x3fff) + 1};
        }
        default: return null;
    }
}

function bmpSize(view) {
    if (view.getUint32(14, true) === 12) return {width: view.getUint16(18, true), height: view.getUint16(20, true)};
    return {width: view.getInt32(18, true), height: Math.abs(view.getInt32(22, true))};
}

// null: none of the formats that the service reads.
export function sizeOf(buffer) {
    const bytes = new Uint8Array(buffer), view = new DataView(buffer);
    try {
        if (ascii(bytes, 1, 3) === 'PNG') return {width: view.getUint32(16), height: view.getUint32(20)};
        if (view.getUint16(0) === 0xffd8) return jpegSize(view);
        if (ascii(bytes, 0, 4) === 'GIF8') return {width: view.getUint16(6, true), height: view.getUint16(8, true)};
        if (ascii(bytes, 0, 4) === 'RIFF' && ascii(bytes, 8, 4) === 'WEBP') return webpSize(bytes, view);
        if (ascii(bytes, 0, 2) === 'BM') return bmpSize(view);
    } catch (error) {
        if (!(error instanceof RangeError)) throw error;  // shorter than its own header
    }
    return null;
}
