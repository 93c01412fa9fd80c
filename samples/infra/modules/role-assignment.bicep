// Lets somebody start, run and look at orchestrations of one task hub, and of no other.
param schedulerName string
param taskHubName string
param principalId string

@allowed(['User', 'ServicePrincipal'])
param principalType string

// The built-in role Durable Task Data Contributor.
var dataContributor = subscriptionResourceId(
  'Microsoft.Authorization/roleDefinitions',
  '0ad04412-c4d5-4796-b79c-f76d14c8d402'
)

resource scheduler 'Microsoft.DurableTask/schedulers@2025-11-01' existing = {
  name: schedulerName
}

resource taskHub 'Microsoft.DurableTask/schedulers/taskHubs@2025-11-01' existing = {
  parent: scheduler
  name: taskHubName
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(taskHub.id, principalId, dataContributor)
  scope: taskHub
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: dataContributor
  }
}
