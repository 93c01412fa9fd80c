// The image that a container app runs now, so that provisioning again does not take it away.
param name string
param exists bool

// Runs until azd has pushed the first image.
var placeholder = 'mcr.microsoft.com/azuredocs/containerapps-helloworld:latest'

resource app 'Microsoft.App/containerApps@2024-03-01' existing = if (exists) {
  name: name
}

output image string = exists ? app.properties.template.containers[0].image : placeholder
