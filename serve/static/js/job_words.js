// What a job is called, and what it is doing, in words.
import { paused } from "./jobs.js";
import { server } from "./state.js";
import { S } from "./strings.js";

/** What a job is called. */
export const titleOf = (job) =>
  job.request.prompt ||
  job.request.anagram?.map((reading) => reading.prompt).join(" / ") ||
  S.modes[job.kind].title;

/** How long a finished job took, in words. */
export const took = (job) =>
  S.run.done(job.images.length, (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000 || 0);

/** What a job is doing, in words. */
export function describe(job) {
  if (!server.value) return S.run.unknown;
  if (job.status === "queued")
    return job.notes?.[0] ?? (paused.value ? S.queue.held : S.run.place(job.queue_position));
  const { step, num_steps: steps, images_done: done, num_images: all, eta_seconds: eta } = job.progress;
  if (!step && !done) return S.run.starting;
  const parts = [(job.kind === "upscale" ? S.run.tile : S.run.step)(step, steps)];
  if (all > 1 && done > 0) parts.push(S.run.images(done, all));
  if (eta !== null && eta !== undefined) parts.push(S.run.left(eta));
  return parts.join(" · ");
}
