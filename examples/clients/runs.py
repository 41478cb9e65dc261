#!/usr/bin/env python3
"""A service that reports its runs to lookout: it registers, begins a run for each question, calls its model, and ends
the run. Standard library only.

  LOOKOUT_URL=http://127.0.0.1:9797 MODEL_URL=http://127.0.0.1:4000/v1 python3 runs.py "How many apples?"

MODEL_URL is LiteLLM or any API like OpenAI's. Through LiteLLM, the metadata makes its calls part of the run.
"""

import json
import os
import sys
import urllib.request

LOOKOUT = os.environ.get("LOOKOUT_URL", "http://127.0.0.1:9797")
MODEL_URL = os.environ.get("MODEL_URL", "http://127.0.0.1:4000/v1")
AGENT = os.environ.get("AGENT_NAME", "stock")


def post(url, body, token=None):
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = "Bearer " + token
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def report(path, body):
    """Sends to lookout. A service works without it, so that a failure is only a line in its log."""
    try:
        return post(LOOKOUT + path, body, os.environ.get("LOOKOUT_TOKEN"))
    except OSError as error:
        print(f"lookout: {path}: {error}", file=sys.stderr)
        return {}


def ask_model(question, run):
    body = {
        "model": os.environ.get("MODEL", "gpt-4o-mini"),
        "messages": [{"role": "user", "content": question}],
        "metadata": {"agent_id": AGENT, "parent_trace_id": run.get("trace_id")},
    }
    return post(MODEL_URL + "/chat/completions", body, os.environ.get("MODEL_KEY", "none"))


def answer(question):
    path = f"/agents/default/{AGENT}/trace"
    run = report(path + "/start", {"name": "question", "session_id": f"chat-{os.getpid()}", "platform": "cli"})
    end = {"trace_id": run.get("trace_id"), "status": "ok"}
    try:
        reply = ask_model(question, run)
        # Used where no call of the run reports any.
        end["tokens"] = reply.get("usage")
        return reply["choices"][0]["message"]["content"]
    except Exception as error:
        end.update(status="error", error=str(error))
        raise
    finally:
        if run:
            report(path + "/end", end)


if __name__ == "__main__":
    report("/agents/register", {"name": AGENT, "type": "vanna"})
    print(answer(" ".join(sys.argv[1:]) or "How many apples?"))
