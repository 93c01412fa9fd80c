// The official JavaScript SDK, client and worker, on a scheduler: `node catalogue.cjs ADDRESS [WORKLOAD...]`.
"use strict";

const { OrchestrationStatus, PurgeInstanceCriteria, VersionFailureStrategy, VersionMatchStrategy, terminateOptions } =
  require("@microsoft/durabletask-js");
const { activities, orchestrators } = require("./functions.cjs");
const { Stage, WAIT, codeOf, end, newId, parsed, perform } = require("./stage.cjs");

const DAY = 86_400_000;

// A waiting parent, its child and its grandchild.
async function tree(stage) {
  const root = newId("tree");
  const ids = [root, `${root}-2`, `${root}-2-1`];
  await stage.started("sleepers", [root, 2], { instanceId: root });
  for (const instanceId of ids) await stage.reached(instanceId, "RUNNING");
  return ids;
}

const statuses = (stage, ids) => Promise.all(ids.map((instanceId) => stage.status(instanceId)));

// Start workers of other task hubs while `use` runs.
async function withWorkers(workers, use) {
  for (const worker of workers) await worker.start();
  try {
    return await use();
  } finally {
    await Promise.all(workers.map((worker) => worker.stop()));
  }
}

async function waited(client, ids) {
  return Promise.all(ids.map(async (id) => end(await client.waitForOrchestrationCompletion(id, true, WAIT))));
}

const workloads = {
  async chain(stage) {
    return end(await stage.run("chain", 10));
  },

  async fan_out(stage) {
    const [status, output] = end(await stage.run("fanOut", 100));
    return [status, output.every((value, index) => value === index + 1), output.length];
  },

  async timer(stage) {
    return end(await stage.run("timer"));
  },

  async event_beats_timer(stage) {
    const instanceId = await stage.started("eventBeatsTimer");
    await stage.client.raiseOrchestrationEvent(instanceId, "Approval", { by: "me" });
    return end(await stage.ended(instanceId));
  },

  async events_keep_their_order_and_ignore_case(stage) {
    const instanceId = await stage.client.scheduleNewOrchestration("threeEvents");
    for (const [number, name] of ["approval", "APPROVAL", "Approval"].entries()) {
      await stage.client.raiseOrchestrationEvent(instanceId, name, number);
    }
    return end(await stage.ended(instanceId));
  },

  async events_from_another_orchestration(stage) {
    const listener = await stage.started("threeEvents");
    return [end(await stage.run("teller", listener)), end(await stage.ended(listener))];
  },

  async child_with_a_given_id(stage) {
    const [instanceId, childId] = [newId("parent"), newId("child")];
    const [status, output] = end(await stage.run("parent", childId, { instanceId }));
    return [status, output[0] === childId, output[1] === instanceId, output[3]];
  },

  async child_with_the_default_id(stage) {
    // The default id begins with the parent's execution id, which only the scheduler can have told.
    const instanceId = newId("parent");
    const [status, output] = end(await stage.run("parent", undefined, { instanceId }));
    const started = (await stage.client.getOrchestrationHistory(instanceId))[1];
    const executionId = started.orchestrationInstance.executionId;
    return [status, executionId.length, output[0].startsWith(`${executionId}:`)];
  },

  async failing_child(stage) {
    return end(await stage.run("parentOfFailingChild", "no tea"));
  },

  async eternal_parent(stage) {
    const [status, output] = end(await stage.run("eternalParent", []));
    return [status, new Set(output).size];
  },

  async activity_retries(stage) {
    return end(await stage.run("activityRetries", 3));
  },

  async activity_retries_exhausted(stage) {
    const [status, type, message] = end(await stage.run("activityRetries", 4));
    return [status, type, message.includes("attempt 3")];
  },

  async child_retries(stage) {
    return end(await stage.run("childRetries", 3));
  },

  async continue_as_new_carries_events_over(stage) {
    const instanceId = await stage.client.scheduleNewOrchestration("collector", []);
    for (let number = 0; number < 10; number++) {
      await stage.client.raiseOrchestrationEvent(instanceId, "number", number);
    }
    return end(await stage.ended(instanceId));
  },

  async custom_status(stage) {
    const instanceId = await stage.started("reporter");
    const running = await stage.client.getOrchestrationState(instanceId);
    await stage.client.raiseOrchestrationEvent(instanceId, "go");
    const ended = await stage.ended(instanceId);
    return [parsed(running.serializedCustomStatus), parsed(ended.serializedCustomStatus)];
  },

  async tags(stage) {
    const state = await stage.run("withTags", null, { tags: { owner: "me" } });
    const history = await stage.client.getOrchestrationHistory(state.instanceId);
    return [state.tags, history[1].tags, history[2].tags];
  },

  async start_without_schedule_and_input(stage) {
    // The SDK then sends the epoch as the time and an empty text as the input.
    const [status, output] = end(await stage.run("oneTurn"));
    return [status, ...output.slice(1)];
  },

  async scheduled_start(stage) {
    const startAt = new Date(Date.now() + 1000);
    const instanceId = await stage.client.scheduleNewOrchestration("chain", 1, { startAt });
    const before = await stage.status(instanceId);
    const state = await stage.ended(instanceId);
    return [before, state.lastUpdatedAt >= startAt, end(state)];
  },

  async history_layout(stage) {
    const state = await stage.run("activityTimerChild");
    const history = await stage.client.getOrchestrationHistory(state.instanceId);
    const ids = history.map((event) => event.eventId).filter((id) => id >= 0);
    return [history.map((event) => event.type), ids.every((id, index) => index === 0 || id > ids[index - 1])];
  },

  async history_of_a_missing_instance(stage) {
    return stage.client.getOrchestrationHistory(newId("missing"));
  },

  async suspend_and_resume(stage) {
    const instanceId = await stage.started("threeEvents");
    for (let times = 0; times < 2; times++) await stage.client.suspendOrchestration(instanceId);
    const suspended = await stage.reached(instanceId, "SUSPENDED");
    for (let number = 0; number < 3; number++) {
      await stage.client.raiseOrchestrationEvent(instanceId, "approval", number);
    }
    const still = await stage.status(instanceId);
    await stage.client.resumeOrchestration(instanceId);
    return [suspended, still, ...end(await stage.ended(instanceId))];
  },

  async terminate(stage) {
    const instanceId = await stage.started("oneEvent");
    await stage.client.terminateOrchestration(instanceId, { why: "enough" });
    return end(await stage.ended(instanceId));
  },

  async terminate_recursively(stage) {
    const ids = await tree(stage);
    await stage.client.terminateOrchestration(ids[0], terminateOptions({ recursive: true, output: "all" }));
    for (const instanceId of ids) await stage.ended(instanceId);
    return statuses(stage, ids);
  },

  async terminate_without_children(stage) {
    const ids = await tree(stage);
    await stage.client.terminateOrchestration(ids[0]);
    await stage.ended(ids[0]);
    const alone = await statuses(stage, ids);
    await stage.client.terminateOrchestration(ids[1], terminateOptions({ recursive: true }));
    return alone;
  },

  async rewind_failed_activity(stage) {
    const { instanceId } = await stage.run("failOnce", 1);
    await stage.client.rewindInstance(instanceId, "repaired");
    return end(await stage.ended(instanceId));
  },

  async rewind_failed_child(stage) {
    const before = await stage.run("parentOfFailOnce", 1);
    await stage.client.rewindInstance(before.instanceId, "repaired");
    return [OrchestrationStatus[before.runtimeStatus], ...end(await stage.ended(before.instanceId))];
  },

  async rewind_purged_child(stage) {
    const { instanceId } = await stage.run("parentOfFailOnce", 1);
    const purged = await stage.client.purgeOrchestration(`${instanceId}-child`);
    await stage.client.rewindInstance(instanceId, "repaired");
    return [purged.deletedInstanceCount, ...end(await stage.ended(instanceId))];
  },

  async rewind_refused(stage) {
    const done = (await stage.run("chain", 1)).instanceId;
    const told = (instanceId) =>
      stage.client.rewindInstance(instanceId, "why").then(
        () => "OK",
        (error) => error.message.replaceAll(instanceId, "ID"),
      );
    return [await told(newId("missing")), await told(done)];
  },

  async restart(stage) {
    const { client } = stage;
    const instanceId = await stage.started("oneEvent");
    const refused = await codeOf(() => client.restartOrchestration(instanceId, false));
    const other = await client.restartOrchestration(instanceId, true);
    for (const which of [instanceId, other]) await client.raiseOrchestrationEvent(which, "go", which === other);
    const ends = [end(await stage.ended(instanceId)), end(await stage.ended(other))];
    const again = await client.restartOrchestration(instanceId, false);
    await client.raiseOrchestrationEvent(again, "go", "again");
    return [refused !== "OK", other !== instanceId, ...ends, again === instanceId, end(await stage.ended(again))];
  },

  async purge(stage) {
    const ids = await tree(stage);
    await stage.client.terminateOrchestration(ids[0], terminateOptions({ recursive: true }));
    for (const instanceId of ids) await stage.ended(instanceId);
    const result = await stage.client.purgeOrchestration(ids[0], { recursive: true });
    const missing = await stage.client.purgeOrchestration(ids[0]);
    return [result.deletedInstanceCount, missing.deletedInstanceCount, await statuses(stage, ids)];
  },

  async purge_by_filter(stage) {
    const client = stage.hubClient("purging");
    const worker = stage.hubWorker("purging", {});
    worker.addNamedOrchestrator("oneTurn", orchestrators.aboutItself);
    return withWorkers([worker], async () => {
      const ids = [];
      for (let count = 0; count < 3; count++) ids.push(await client.scheduleNewOrchestration("oneTurn"));
      await waited(client, ids);
      const criteria = new PurgeInstanceCriteria();
      criteria.setCreatedTimeTo(new Date(Date.now() + DAY));
      criteria.setRuntimeStatusList([OrchestrationStatus.COMPLETED]);
      const counts = [await client.purgeOrchestration(criteria), await client.purgeOrchestration(criteria)];
      return counts.map((result) => result.deletedInstanceCount);
    });
  },

  async query_pages(stage) {
    const prefix = newId("query");
    const ids = Array.from("gfedcba", (letter) => `${prefix}-${letter}`);
    for (const instanceId of ids) await stage.run("chain", 1, { instanceId });
    const sizes = [];
    const found = [];
    for await (const page of stage.client.getAllInstances({ instanceIdPrefix: prefix, pageSize: 3 }).asPages()) {
      sizes.push(page.values.length);
      found.push(...page.values.map((state) => state.instanceId));
    }
    const none = [];
    const filter = { instanceIdPrefix: prefix, statuses: [OrchestrationStatus.FAILED] };
    for await (const state of stage.client.getAllInstances(filter)) none.push(state.instanceId);
    return [sizes, found.join() === ids.join(), none];
  },

  async list_instance_ids(stage) {
    const client = stage.hubClient("listing");
    const worker = stage.hubWorker("listing", {});
    worker.addNamedOrchestrator("oneTurn", orchestrators.aboutItself);
    return withWorkers([worker], async () => {
      const ids = [];
      for (let count = 0; count < 7; count++) {
        ids.push(await client.scheduleNewOrchestration("oneTurn"));
        await waited(client, ids.slice(-1));
      }
      const pages = [await client.listInstanceIds({ pageSize: 3 })];
      while (pages.at(-1).hasMoreResults && pages.length < 9) {
        pages.push(await client.listInstanceIds({ pageSize: 3, lastInstanceKey: pages.at(-1).continuationToken }));
      }
      return [pages.map((page) => page.values.length), pages.flatMap((page) => page.values).join() === ids.join()];
    });
  },

  async duplicate_start(stage) {
    const instanceId = await stage.started("oneEvent");
    const live = await codeOf(() => stage.client.scheduleNewOrchestration("chain", 1, { instanceId }));
    await stage.client.raiseOrchestrationEvent(instanceId, "go", "first");
    const first = end(await stage.ended(instanceId));
    return [live, first, end(await stage.run("chain", 2, { instanceId }))];
  },

  async missing_instance(stage) {
    const missing = newId("missing");
    const wait = await codeOf(() => stage.client.waitForOrchestrationCompletion(missing, true, 0.3));
    return [(await stage.client.getOrchestrationState(missing)) ?? null, wait];
  },

  async unknown_orchestrator(stage) {
    return end(await stage.run("nobody knows it")).slice(0, 2);
  },

  async two_versions_side_by_side(stage) {
    const workers = ["1.0.0", "2.0.0"].map((version) => {
      const versioning = {
        version,
        matchStrategy: VersionMatchStrategy.Strict,
        failureStrategy: VersionFailureStrategy.Reject,
      };
      const worker = stage.hubWorker("versions", { versioning });
      worker.addNamedOrchestrator("who", async function* (context) {
        return [version, context.version];
      });
      return worker;
    });
    return withWorkers(workers, async () => {
      const client = stage.hubClient("versions");
      const start = (version) => client.scheduleNewOrchestration("who", undefined, { version });
      return waited(client, await Promise.all(["1.0.0", "2.0.0", "1.0.0", "2.0.0"].map(start)));
    });
  },

  async work_item_filters(stage) {
    const client = stage.hubClient("filters");
    const nobody = await client.scheduleNewOrchestration("plums");
    const workers = [{ workItemFilters: "auto" }, { workItemFilters: { orchestrations: [{ name: "pears" }] } }].map(
      (options, index) => {
        const worker = stage.hubWorker("filters", options);
        const name = ["apples", "pears"][index];
        worker.addNamedOrchestrator(name, async function* () {
          return name;
        });
        return worker;
      },
    );
    return withWorkers(workers, async () => {
      const ids = [];
      for (let times = 0; times < 3; times++) {
        for (const name of ["apples", "pears"]) ids.push(await client.scheduleNewOrchestration(name));
      }
      const ends = await waited(client, ids);
      const parked = await client.getOrchestrationState(nobody);
      return [ends.map(([, output]) => output), OrchestrationStatus[parked.runtimeStatus]];
    });
  },
};

async function main(address, ...only) {
  const stage = new Stage(address);
  const worker = stage.hubWorker("default", {});
  for (const [name, activity] of Object.entries(activities)) worker.addNamedActivity(name, activity);
  for (const [name, orchestrator] of Object.entries(orchestrators)) worker.addNamedOrchestrator(name, orchestrator);
  worker.addNamedOrchestrator("oneTurn", orchestrators.aboutItself);
  const wanted = Object.values(workloads).filter((workload) => only.length === 0 || only.includes(workload.name));
  await withWorkers([worker], () => perform(stage, wanted));
}

// Waits that a client gave up keep their calls open: the end must be said.
main(...process.argv.slice(2)).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
