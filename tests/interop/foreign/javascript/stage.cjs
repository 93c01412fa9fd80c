// What the workloads of this folder share. A workload is an async function from a stage to its outcome, which must
// fit into JSON; `perform` prints one line for each: {"workload": name, "outcome": ...}, or "error" with a stack.
"use strict";

const { randomUUID } = require("node:crypto");
const grpc = require("@grpc/grpc-js");
const { NoOpLogger, OrchestrationStatus, TaskHubGrpcClient, TaskHubGrpcWorker } = require("@microsoft/durabletask-js");

const WAIT = 30;
const AT_ONCE = 8;

// A scheduler's address and a client of its default task hub, and clients and workers of other task hubs.
class Stage {
  constructor(address) {
    this.address = address;
    this.client = this.hubClient("default");
  }

  connection(hub) {
    const metadataGenerator = async () => {
      const metadata = new grpc.Metadata();
      metadata.set("taskhub", hub);
      return metadata;
    };
    return { hostAddress: this.address, logger: new NoOpLogger(), metadataGenerator };
  }

  hubClient(hub) {
    return new TaskHubGrpcClient(this.connection(hub));
  }

  hubWorker(hub, options) {
    return new TaskHubGrpcWorker({ ...this.connection(hub), ...options });
  }

  // Start an orchestration and wait for its end.
  async run(orchestrator, input, options) {
    return this.ended(await this.client.scheduleNewOrchestration(orchestrator, input, options));
  }

  ended(instanceId) {
    return this.client.waitForOrchestrationCompletion(instanceId, true, WAIT);
  }

  // Start an orchestration and wait for its first turn; its id.
  async started(orchestrator, input, options) {
    const instanceId = await this.client.scheduleNewOrchestration(orchestrator, input, options);
    await this.client.waitForOrchestrationStart(instanceId, false, WAIT);
    return instanceId;
  }

  async status(instanceId) {
    const state = await this.client.getOrchestrationState(instanceId);
    return state ? OrchestrationStatus[state.runtimeStatus] : "missing";
  }

  // Wait for the status, for which no call waits; the status.
  async reached(instanceId, wanted) {
    const deadline = Date.now() + WAIT * 1000;
    let status = await this.status(instanceId);
    while (status !== wanted && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      status = await this.status(instanceId);
    }
    return status;
  }
}

const newId = (prefix) => `${prefix}-${randomUUID().slice(0, 12)}`;

const parsed = (text) => (text === undefined || text === "" ? null : JSON.parse(text));

// Status and output; the failure's type and message in place of the output where there is one.
function end(state) {
  const status = OrchestrationStatus[state.runtimeStatus];
  const failure = state.failureDetails;
  return failure ? [status, failure.errorType, failure.message] : [status, parsed(state.serializedOutput)];
}

// How a call ended: OK, gRPC's status where the error has one, or the error's class.
async function codeOf(call) {
  try {
    await call();
    return "OK";
  } catch (error) {
    return error.code === undefined ? error.constructor.name : grpc.status[error.code];
  }
}

async function performOne(stage, workload) {
  let line;
  try {
    line = { workload: workload.name, outcome: await workload(stage) };
  } catch (error) {
    line = { workload: workload.name, error: error.stack ?? String(error) };
  }
  console.log(JSON.stringify(line));
}

async function perform(stage, workloads) {
  const waiting = [...workloads];
  const lane = async () => {
    for (let workload = waiting.shift(); workload; workload = waiting.shift()) {
      await performOne(stage, workload);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

module.exports = { Stage, WAIT, codeOf, end, newId, parsed, perform };
