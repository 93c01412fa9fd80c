// Everything that a sample needs in Azure, in a resource group of its own. `azd up` in the sample's folder deploys it.
targetScope = 'subscription'

@minLength(1)
@maxLength(40)
@description('Name of the azd environment; the resource group and all tags carry it.')
param environmentName string

@minLength(1)
@description('Region of all resources; Durable Task Scheduler must be available in it.')
param location string

@description('Object id of who deploys, so that the dashboard opens for them; empty for nobody.')
param principalId string = ''

@allowed(['User', 'ServicePrincipal'])
@description('What principalId is: User, or ServicePrincipal for a pipeline.')
param principalType string = 'User'

@allowed(['Consumption', 'Dedicated'])
@description('Consumption is paid by use, Dedicated by the hour.')
param schedulerSku string = 'Consumption'

@minLength(1)
@description('Addresses from which the scheduler accepts connections; every caller needs a role besides.')
param ipAllowlist array = ['0.0.0.0/0']

@description('Name of the task hub.')
param taskHubName string = 'default'

@description('Whether the worker is deployed already; its image is kept then.')
param workerExists bool = false

@description('Whether the client is deployed already; its image is kept then.')
param clientExists bool = false

var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = {
  'azd-env-name': environmentName
}
var settings = [
  {
    name: 'ENDPOINT'
    value: scheduler.outputs.endpoint
  }
  {
    name: 'TASKHUB'
    value: taskHubName
  }
  {
    // Which of the identities of a container DefaultAzureCredential takes.
    name: 'AZURE_CLIENT_ID'
    value: identity.outputs.clientId
  }
]

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: 'id-${token}'
    location: location
    tags: tags
  }
}

module registry 'modules/registry.bicep' = {
  name: 'registry'
  scope: group
  params: {
    name: 'cr${token}'
    location: location
    tags: tags
    pullPrincipalId: identity.outputs.principalId
  }
}

module appEnvironment 'modules/environment.bicep' = {
  name: 'environment'
  scope: group
  params: {
    name: 'cae-${token}'
    workspaceName: 'log-${token}'
    location: location
    tags: tags
  }
}

module scheduler 'modules/scheduler.bicep' = {
  name: 'scheduler'
  scope: group
  params: {
    name: 'dts-${token}'
    taskHubName: taskHubName
    location: location
    tags: tags
    skuName: schedulerSku
    ipAllowlist: ipAllowlist
  }
}

module appAccess 'modules/role-assignment.bicep' = {
  name: 'app-access'
  scope: group
  params: {
    schedulerName: scheduler.outputs.name
    taskHubName: taskHubName
    principalId: identity.outputs.principalId
    principalType: 'ServicePrincipal'
  }
}

module deployerAccess 'modules/role-assignment.bicep' = if (!empty(principalId)) {
  name: 'deployer-access'
  scope: group
  params: {
    schedulerName: scheduler.outputs.name
    taskHubName: taskHubName
    principalId: principalId
    principalType: principalType
  }
}

module worker 'modules/container-app.bicep' = {
  name: 'worker'
  scope: group
  params: {
    name: 'ca-worker-${token}'
    serviceName: 'worker'
    location: location
    tags: tags
    exists: workerExists
    environmentId: appEnvironment.outputs.id
    registryServer: registry.outputs.loginServer
    identityId: identity.outputs.id
    settings: settings
    maxReplicas: 3
  }
  dependsOn: [
    appAccess
  ]
}

module client 'modules/container-app.bicep' = {
  name: 'client'
  scope: group
  params: {
    name: 'ca-client-${token}'
    serviceName: 'client'
    location: location
    tags: tags
    exists: clientExists
    environmentId: appEnvironment.outputs.id
    registryServer: registry.outputs.loginServer
    identityId: identity.outputs.id
    settings: settings
    maxReplicas: 1
  }
  dependsOn: [
    appAccess
  ]
}

// azd keeps these as variables of its environment: `azd env get-values` prints them.
output AZURE_LOCATION string = location
output AZURE_RESOURCE_GROUP string = group.name
output AZURE_CONTAINER_REGISTRY_ENDPOINT string = registry.outputs.loginServer
output ENDPOINT string = scheduler.outputs.endpoint
output TASKHUB string = taskHubName
output WORKER_URL string = '${environment().portal}/#resource${worker.outputs.id}'
output CLIENT_URL string = '${environment().portal}/#resource${client.outputs.id}'
output SCHEDULER_URL string = '${environment().portal}/#resource${scheduler.outputs.id}'
