// A program that OpenTelemetry's SDK for Node measures, as its environment says: instruments of each kind, and spans of
// calls to a model whose tokens a histogram counts as well.
//
// Each line of its input is a number: it counts so many times, exports, and prints the line. It ends with its input.
'use strict';
const readline = require('node:readline');
const { metrics, trace } = require('@opentelemetry/api');
const { NodeSDK } = require('@opentelemetry/sdk-node');

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
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const times = Number(line);
    done.add(10 * times, { kind: 'a "b"' });
    cost.add(0.75 * times);
    waiting.add(5 * times);
    waiting.add(-2 * times);
    temperature.record(20 + times);
    duration.record(0.5);
    duration.record(3);
    call(100 * times, 10 * times);
    await metrics.getMeterProvider().forceFlush();
    await trace.getTracerProvider().getDelegate().forceFlush();
    console.log(line);
  }
  await sdk.shutdown();
}

main();
