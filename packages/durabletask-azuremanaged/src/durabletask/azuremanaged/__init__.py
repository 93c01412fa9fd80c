"""Azure Durable Task Scheduler: import from :mod:`durabletask.azuremanaged.client` and ``.worker``."""
