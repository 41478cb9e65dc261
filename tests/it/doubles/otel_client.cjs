// A program that OpenTelemetry's SDK for Node measures, as its environment says: instruments of each kind, and spans of
// calls to a model whose tokens a histogram counts as well. What it counts is exported twice.
//
// Usage: node otel_client.cjs TIMES, which multiplies what is counted.
'use strict';
const { metrics, trace } = require('@opentelemetry/api');
const { NodeSDK } = require('@opentelemetry/sdk-node');

const times = Number(process.argv[2]);
const sdk = new NodeSDK();
sdk.start();
const meter = metrics.getMeter('shop.jobs', '0.1');
const done = meter.createCounter('jobs.done', { unit: '{job}', description: 'Jobs that are done' });
const cost = meter.createCounter('jobs.cost', { unit: 'USD' });
const waiting = meter.createUpDownCounter('jobs.waiting');
const temperature = meter.createGauge('room.temperature', { unit: 'Cel' });
const duration = meter.createHistogram('job.duration', { unit: 's', advice: { explicitBucketBoundaries: [1, 5] } });
const usage = meter.createHistogram('gen_ai.client.token.usage', { unit: '{token}' });
const tracer = trace.getTracer('shop.jobs');

function call(input, output) {
  const names = { 'gen_ai.operation.name': 'chat', 'gen_ai.provider.name': 'openai', 'gen_ai.request.model': 'm-1' };
  const attributes = { ...names, 'gen_ai.usage.input_tokens': input, 'gen_ai.usage.output_tokens': output };
  tracer.startSpan('chat m-1', { attributes }).end();
  usage.record(input, { ...names, 'gen_ai.token.type': 'input' });
  usage.record(output, { ...names, 'gen_ai.token.type': 'output' });
}

async function main() {
  done.add(4 * times, { kind: 'a "b"' });
  cost.add(0.5 * times);
  waiting.add(5);
  temperature.record(20);
  duration.record(0.5);
  call(100 * times, 10 * times);
  // Between two intervals of its export, of which the last comes at its end.
  await new Promise((resolve) => setTimeout(resolve, 300));
  done.add(6 * times, { kind: 'a "b"' });
  cost.add(0.25 * times);
  waiting.add(-2);
  temperature.record(21.5);
  duration.record(3);
  duration.record(4);
  call(20 * times, 2 * times);
  await sdk.shutdown();
}

main();
