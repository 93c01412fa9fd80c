// One service of azure.yaml as a container app. Nothing connects to it: workers and clients call the scheduler.
param name string

@description('Name of the service in azure.yaml; by this tag azd finds where to deploy it.')
param serviceName string

param location string
param tags object
param exists bool
param environmentId string
param registryServer string
param identityId string

@description('Environment variables: objects with name and value.')
param settings array

param maxReplicas int

module current 'fetch-image.bicep' = {
  name: 'image-of-${serviceName}'
  params: {
    name: name
    exists: exists
  }
}

resource app 'Microsoft.App/containerApps@2024-03-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': serviceName })
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    managedEnvironmentId: environmentId
    configuration: {
      activeRevisionsMode: 'Single'
      registries: [
        {
          server: registryServer
          identity: identityId
        }
      ]
    }
    template: {
      containers: [
        {
          name: 'main'
          image: current.outputs.image
          env: settings
          resources: {
            cpu: json('0.5')
            memory: '1.0Gi'
          }
        }
      ]
      scale: {
        minReplicas: 1
        maxReplicas: maxReplicas
      }
    }
  }
}

output id string = app.id
