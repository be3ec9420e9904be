"""Many clients at once for a while: every answer must be the one given alone, errors none, memory flat, nothing left over.

    build/serve_venv/bin/python tests/e2e/serve/soak.py --seconds 600 --clients 64
    build/serve_venv/bin/python tests/e2e/serve/soak.py --model path/to/InternVL2-1B --seconds 120 --max-tokens 8
"""
import argparse
import asyncio
import base64
import collections
import pathlib
import random
import time

import openai
from api_site import Service, chat, picture

CLIP = pathlib.Path(__file__).parents[2] / "unit/media/trimmed.mp4"


def video():
    url = "data:video/mp4;base64," + base64.b64encode(CLIP.read_bytes()).decode()
    return {"type": "video_url", "video_url": {"url": url, "num_segments": 4}}


def questions(most):
    """A few dozen requests of all kinds, each with its seed."""
    found = []
    for i in range(24):
        kind = i % 6
        text = {"type": "text", "text": f"Question {i}: " + "what is to be seen here? " * (i % 5)}
        parts = {0: [text], 1: [text], 2: [picture(448, 448, 5 * i), text], 3: [picture(900, 450, 5 * i), text],
                 4: [picture(448, 448, 5 * i), picture(448, 448, 5 * i + 1), text], 5: [video(), text]}[kind]
        fields = chat(parts, max_tokens=most, seed=i)
        if i % 2:
            fields |= {"temperature": 1, "top_p": 0.9}
        found.append(fields)
    return found


def resident(service):
    for line in pathlib.Path(f"/proc/{service.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


class Soak:
    def __init__(self, service, flags):
        self.service, self.flags = service, flags
        self.counts, self.wrong, self.errors = collections.Counter(), [], []
        self.first, self.memory = [], []

    def alone(self):
        client = self.service.client(timeout=600)
        self.asked = questions(self.flags.max_tokens)
        self.expected = [client.chat.completions.create(**q).choices[0].message.content for q in self.asked]

    async def one(self, client, dice):
        number = dice.randrange(len(self.asked))
        leaves = dice.random() < self.flags.leave
        begin, text = time.time(), ""
        try:
            if dice.random() < 0.5:
                stream = await client.chat.completions.create(**self.asked[number], stream=True)
                async for chunk in stream:
                    if not text and chunk.choices and chunk.choices[0].delta.content:
                        self.first.append(time.time() - begin)
                    text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                    if leaves and dice.random() < 0.3:
                        await stream.close()
                        self.counts["left"] += 1
                        return
            else:
                request = client.chat.completions.create(**self.asked[number])
                if leaves:
                    try:
                        await asyncio.wait_for(request, dice.random() * 0.2)
                    except asyncio.TimeoutError:
                        self.counts["left"] += 1
                    return
                text = (await request).choices[0].message.content
        except openai.RateLimitError:
            self.counts["429"] += 1
            await asyncio.sleep(0.2)
            return
        except openai.APIError as error:
            self.errors.append(repr(error))
            return
        self.counts["answered"] += 1
        if text != self.expected[number]:
            self.wrong.append((number, text, self.expected[number]))

    async def client(self, number, end):
        dice = random.Random(number)
        async with self.service.async_client(timeout=600) as client:
            while time.time() < end:
                await self.one(client, dice)

    async def watch(self, end):
        while time.time() < end:
            self.memory.append(resident(self.service))
            await asyncio.sleep(1)

    async def run(self):
        end = time.time() + self.flags.seconds
        await asyncio.gather(self.watch(end), *(self.client(i, end) for i in range(self.flags.clients)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--leave", type=float, default=0.1, help="share of clients that go before the end")
    parser.add_argument("flags", nargs="*", help="for internvl serve, after --")
    flags = parser.parse_args()
    with Service("--max-queue", 256, "--served-model-name", "demo", *flags.flags, model=flags.model) as service:
        soak = Soak(service, flags)
        soak.alone()
        asyncio.run(soak.run())
        service.wait_idle(60)
        left = {name: service.metric(name) for name in ("internvl_kv_blocks_used", "internvl_requests_running")}
        quarters = [soak.memory[(len(soak.memory) - 1) * i // 4] for i in (1, 2, 3, 4)]
        growth = (quarters[-1] / quarters[0] - 1) * 100
        first = sorted(soak.first)
        print(f"{dict(soak.counts)}, {len(soak.errors)} errors, {len(soak.wrong)} wrong answers; left over: {left}")
        print(f"resident {', '.join(f'{mib:.0f}' for mib in quarters)} MiB after each quarter ({growth:+.1f} %); "
              f"first text: median {first[len(first) // 2]:.2f} s, 99 % {first[len(first) * 99 // 100]:.2f} s")
        for line in soak.errors[:5] + [repr(w) for w in soak.wrong[:3]]:
            print("  ", line[:300])
        bad = soak.errors or soak.wrong or any(left.values()) or service.end() != 0
        raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
