#!/usr/bin/env node
// A service that reports its runs to lookout: it registers, begins a run for each question, calls its model, and ends
// the run. Node 18 or later, without packages.
//
//   LOOKOUT_URL=http://127.0.0.1:9797 MODEL_URL=http://127.0.0.1:4000/v1 node runs.mjs "How many apples?"
//
// MODEL_URL is LiteLLM or any API like OpenAI's. Through LiteLLM, the metadata makes its calls part of the run.

const lookout = process.env.LOOKOUT_URL ?? "http://127.0.0.1:9797";
const modelUrl = process.env.MODEL_URL ?? "http://127.0.0.1:4000/v1";
const agent = process.env.AGENT_NAME ?? "stock";

async function post(url, body, token) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const signal = AbortSignal.timeout(60_000);
  const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!answer.ok) throw new Error(`${new URL(url).pathname}: HTTP ${answer.status}: ${await answer.text()}`);
  return answer.json();
}

// A service works without lookout, so that a failure is only a line in its log.
async function report(path, body) {
  try {
    return await post(lookout + path, body, process.env.LOOKOUT_TOKEN);
  } catch (error) {
    console.error(`lookout: ${error.message}`);
    return {};
  }
}

async function answer(question) {
  const path = `/agents/default/${agent}/trace`;
  const run = await report(`${path}/start`, { name: "question", session_id: `chat-${process.pid}`, platform: "cli" });
  const end = { trace_id: run.trace_id, status: "ok" };
  try {
    const reply = await post(`${modelUrl}/chat/completions`, {
      model: process.env.MODEL ?? "gpt-4o-mini",
      messages: [{ role: "user", content: question }],
      metadata: { agent_id: agent, parent_trace_id: run.trace_id },
    }, process.env.MODEL_KEY ?? "none");
    // Used where no call of the run reports any.
    end.tokens = reply.usage;
    return reply.choices[0].message.content;
  } catch (error) {
    Object.assign(end, { status: "error", error: error.message });
    throw error;
  } finally {
    if (run.trace_id) await report(`${path}/end`, end);
  }
}

await report("/agents/register", { name: agent, type: "custom" });
console.log(await answer(process.argv.slice(2).join(" ") || "How many apples?"));
