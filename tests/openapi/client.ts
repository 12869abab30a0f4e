// What people call first, with types made from the document. Prints one JSON object of what it saw.

import { argv } from "node:process";

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.ts";

type Problem = components["schemas"]["Problem"];
type Entry = components["schemas"]["SteeringEntry"];

const baseUrl = argv[2] ?? "http://127.0.0.1:8000";
// Without streams: of what else there is, each answer has one type.
const client = createClient<paths, "application/json" | "application/problem+json">({ baseUrl });

const model = "storyworld";
const sae = "2-res-topk";

function whole<T>(asked: { data?: T; error?: Problem }): T {
  if (asked.data === undefined) {
    throw new Error(asked.error?.detail ?? "no answer");
  }
  return asked.data;
}

async function feature(index: number) {
  const path = { model, sae, index };
  const found = whole(
    await client.GET("/v1/models/{model}/saes/{sae}/features/{index}", { params: { path } }),
  );
  const strongest = found.bands[0]?.examples[0];
  return {
    label: found.label,
    max_activation: found.max_activation.toFixed(3),
    text: strongest?.text ?? null,
    promotes: found.logits.top.map((one) => one.token),
    calibrated: found.calibration?.strength ?? null,
  };
}

async function features(): Promise<number[]> {
  const indices: number[] = [];
  let cursor: string | null = null;
  do {
    const query: { sort: "density"; order: "desc"; limit: number; cursor?: string } = {
      sort: "density",
      order: "desc",
      limit: 2,
    };
    if (cursor !== null) {
      query.cursor = cursor;
    }
    const page = whole(
      await client.GET("/v1/models/{model}/saes/{sae}/features", {
        params: { path: { model, sae }, query },
      }),
    );
    indices.push(...page.items.map((row) => row.index));
    cursor = page.next_cursor;
  } while (cursor !== null && indices.length < 6);
  return indices;
}

async function activations() {
  const body = { model, saes: [sae], texts: ["The old sailor was happy."], top_k: 2 };
  const { results } = whole(await client.POST("/v1/activations", { body }));
  return results.map((text) => ({
    tokens: text.tokens,
    strongest: text.saes[sae]?.top?.map((ranked) => ranked[0]?.feature ?? null) ?? [],
  }));
}

async function steered() {
  const entry: Entry = { sae, feature: 12, strength: 1.5 };
  const body = { model, prompt: "The old sailor", max_new_tokens: 8, steering: [entry] };
  const { baseline, steered, usage } = whole(await client.POST("/v1/steer", { body }));
  return { text: steered.text, unsteered: baseline?.text ?? null, tokens: usage.completion_tokens };
}

async function streamed(): Promise<string> {
  const { response } = await client.POST("/v1/steer", {
    body: { model, prompt: "The old sailor", max_new_tokens: 8, stream: true, baseline: false },
    parseAs: "stream",
  });
  const events = (await response.text()).split("\n\n").filter((event) => event !== "");
  return events.map((event) => event.split("\n")[0]?.slice("event: ".length)).join(" ");
}

async function job() {
  const submitted = whole(
    await client.POST("/v1/jobs", { body: { kind: "verify", model, sae, examples: 5 } }),
  );
  const params = { path: { job: submitted.id } };
  const cancelled = whole(await client.POST("/v1/jobs/{job}/cancel", { params }));
  const deleted = await client.DELETE("/v1/jobs/{job}", { params });
  return { was: submitted.state, is: cancelled.state, deleted: deleted.response.status };
}

async function refused() {
  const { error } = await client.POST("/v1/steer", { body: { model, prompt: "x", top_p: 7 } });
  const first = error?.errors?.[0];
  return { status: error?.status, where: first?.where, allowed: first?.allowed };
}

async function refusedByOpenAi() {
  const { error } = await client.POST("/v1/completions", { body: { model: "gpt5", prompt: "x" } });
  return error?.error.code;
}

console.log(
  JSON.stringify({
    feature: await feature(12),
    features: await features(),
    activations: await activations(),
    steered: await steered(),
    streamed: await streamed(),
    job: await job(),
    refused: await refused(),
    openai: await refusedByOpenAi(),
  }),
);
