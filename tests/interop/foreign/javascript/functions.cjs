// The orchestrators and activities of the catalogue.
"use strict";

const { RetryPolicy, whenAll, whenAny } = require("@microsoft/durabletask-js");

const attempts = new Map();
const soon = (context, milliseconds) => new Date(context.currentUtcDateTime.getTime() + milliseconds);

const activities = {
  addOne: (_, number) => number + 1,
  fail: (_, message) => {
    throw new Error(message);
  },
  // Fail until the given attempt; the number of the attempt.
  failUntil: (_, [key, successful]) => {
    const attempt = (attempts.get(key) ?? 0) + 1;
    attempts.set(key, attempt);
    if (attempt < successful) throw new Error(`attempt ${attempt}`);
    return attempt;
  },
};

const retryPolicy = (maxNumberOfAttempts) =>
  new RetryPolicy({ maxNumberOfAttempts, firstRetryIntervalInMilliseconds: 50 });

const orchestrators = {
  async *chain(context, length) {
    let value = 0;
    for (let step = 0; step < length; step++) value = yield context.callActivity("addOne", value);
    return value;
  },
  async *fanOut(context, width) {
    return yield whenAll(Array.from({ length: width }, (_, number) => context.callActivity("addOne", number)));
  },
  async *timer(context) {
    const begin = context.currentUtcDateTime.getTime();
    yield context.createTimer(soon(context, 300));
    return context.currentUtcDateTime.getTime() - begin >= 300;
  },
  async *oneEvent(context) {
    return yield context.waitForExternalEvent("go");
  },
  async *threeEvents(context) {
    yield context.createTimer(soon(context, 100));
    const values = [];
    for (let count = 0; count < 3; count++) values.push(yield context.waitForExternalEvent("approval"));
    return values;
  },
  async *eventBeatsTimer(context) {
    const event = context.waitForExternalEvent("approval");
    const winner = yield whenAny([context.createTimer(soon(context, 30 * 86_400_000)), event]);
    return [winner === event, event.getResult()];
  },
  async *teller(context, listener) {
    for (let number = 0; number < 3; number++) context.sendEvent(listener, "approval", number);
    yield context.createTimer(soon(context, 0));
    return "told";
  },
  async *aboutItself(context, given) {
    return [context.instanceId, context.parent?.instanceId ?? null, context.version, given ?? null];
  },
  async *parent(context, childId) {
    return yield context.callSubOrchestrator("aboutItself", "hello", childId ? { instanceId: childId } : undefined);
  },
  async *failingChild(context, message) {
    yield context.callActivity("fail", message);
  },
  async *parentOfFailingChild(context, message) {
    try {
      yield context.callSubOrchestrator("failingChild", message);
    } catch (error) {
      return [error.constructor.name, String(error.message).includes(message)];
    }
  },
  async *eternalParent(context, seen) {
    const child = yield context.callSubOrchestrator("aboutItself");
    if (seen.push(child[0]) < 3) context.continueAsNew(seen, false);
    return seen;
  },
  async *activityRetries(context, successful) {
    return yield context.callActivity("failUntil", [context.instanceId, successful], { retry: retryPolicy(3) });
  },
  async *childThatFailsUntil(context, given) {
    return [context.instanceId, yield context.callActivity("failUntil", given)];
  },
  async *childRetries(context, successful) {
    const given = [context.instanceId, successful];
    return (yield context.callSubOrchestrator("childThatFailsUntil", given, { retry: retryPolicy(3) }))[1];
  },
  async *collector(context, seen) {
    seen.push(yield context.waitForExternalEvent("number"));
    if (seen.length < 10) context.continueAsNew(seen, true);
    return seen;
  },
  async *sleepers(context, [instanceId, depth]) {
    if (depth) {
      const child = `${instanceId}-${depth}`;
      yield context.callSubOrchestrator("sleepers", [child, depth - 1], { instanceId: child });
    }
    yield context.waitForExternalEvent("wake");
  },
  async *reporter(context) {
    context.setCustomStatus({ waiting: true });
    yield context.waitForExternalEvent("go");
    context.setCustomStatus([1, "two", null]);
  },
  async *failOnce(context, times) {
    const before = yield context.callActivity("addOne", 1);
    return [before, yield context.callActivity("failUntil", [context.instanceId, times + 1])];
  },
  async *parentOfFailOnce(context, times) {
    return yield context.callSubOrchestrator("failOnce", times, { instanceId: `${context.instanceId}-child` });
  },
  async *activityTimerChild(context) {
    yield context.callActivity("addOne", 1);
    yield context.createTimer(soon(context, 100));
    yield context.callSubOrchestrator("aboutItself");
    return "laid out";
  },
  async *withTags(context) {
    return yield context.callActivity("addOne", 1, { tags: { kind: "activity" } });
  },
};

module.exports = { activities, orchestrators };
