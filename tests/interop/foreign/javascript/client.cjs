// The official JavaScript client for orchestrations of Python workers: `node client.cjs ADDRESS`.
"use strict";

const { OrchestrationStatus, terminateOptions } = require("@microsoft/durabletask-js");
const { Stage, codeOf, end, newId, parsed, perform } = require("./stage.cjs");

const workloads = {
  async chain(stage) {
    return end(await stage.run("chain", 5));
  },

  async payloads(stage) {
    const given = [0, "", false, [], {}, "tea ☕", { nested: [1, { deep: null }] }];
    const states = await Promise.all(given.map((value) => stage.run("echo_through_activity", value)));
    return states.map((state) => [parsed(state.serializedOutput), parsed(state.serializedCustomStatus)]);
  },

  async events(stage) {
    const instanceId = await stage.client.scheduleNewOrchestration("three_events");
    for (let number = 0; number < 3; number++) {
      await stage.client.raiseOrchestrationEvent(instanceId, "Approval", number);
    }
    return end(await stage.ended(instanceId));
  },

  async failure(stage) {
    const [status, type, message] = end(await stage.run("failing_child", "no tea"));
    return [status, type, message.split(": ").slice(1).join(": ")];
  },

  async tags(stage) {
    return (await stage.run("with_tags", null, { tags: { owner: "me" } })).tags;
  },

  async terminate_recursively(stage) {
    const root = newId("tree");
    const ids = [root, `${root}-1`];
    await stage.started("parent_of_sleepers", [root, 1], { instanceId: root });
    await stage.reached(ids[1], "RUNNING");
    await stage.client.terminateOrchestration(root, terminateOptions({ recursive: true, output: "all" }));
    return Promise.all(ids.map(async (instanceId) => end(await stage.ended(instanceId))));
  },

  async suspend_and_resume(stage) {
    const instanceId = await stage.started("one_event");
    await stage.client.suspendOrchestration(instanceId);
    const suspended = await stage.reached(instanceId, "SUSPENDED");
    await stage.client.raiseOrchestrationEvent(instanceId, "go", 7);
    await stage.client.resumeOrchestration(instanceId);
    return [suspended, ...end(await stage.ended(instanceId))];
  },

  async rewind(stage) {
    const { instanceId, runtimeStatus } = await stage.run("fail_once", 1);
    await stage.client.rewindInstance(instanceId, "repaired");
    return [OrchestrationStatus[runtimeStatus], ...end(await stage.ended(instanceId))];
  },

  async duplicate_start(stage) {
    const instanceId = await stage.started("one_event");
    const code = await codeOf(() => stage.client.scheduleNewOrchestration("chain", 1, { instanceId }));
    await stage.client.terminateOrchestration(instanceId);
    return code;
  },

  async history(stage) {
    const state = await stage.run("activity_timer_child");
    return (await stage.client.getOrchestrationHistory(state.instanceId)).map((event) => event.type);
  },

  // One orchestration whose turns run in JavaScript and whose activities run in Python.
  async activities_in_another_language(stage) {
    const filters = { orchestrations: [{ name: "composed" }] };
    const worker = stage.hubWorker("default", { workItemFilters: filters });
    worker.addNamedOrchestrator("composed", async function* (context, number) {
      const one = yield context.callActivity("add_one", number);
      return yield context.callActivity("echo", { one });
    });
    await worker.start();
    const outcome = end(await stage.run("composed", 1));
    await worker.stop();
    return outcome;
  },

  async child_in_another_language(stage) {
    const filters = { orchestrations: [{ name: "asks_python" }] };
    const worker = stage.hubWorker("default", { workItemFilters: filters });
    worker.addNamedOrchestrator("asks_python", async function* (context, length) {
      return yield context.callSubOrchestrator("chain", length);
    });
    await worker.start();
    const outcome = end(await stage.run("asks_python", 4));
    await worker.stop();
    return outcome;
  },
};

const stage = new Stage(process.argv[2]);
// Calls that are still open would keep the program running: the end must be said.
perform(stage, Object.values(workloads)).then(() => process.exit(0));
